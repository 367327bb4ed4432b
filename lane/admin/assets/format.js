// Figures as people read them. What is unknown is a dash. Sizes are of 1024, as everywhere in lane.

const NONE = "–";
const SIZES = ["B", "KB", "MB", "GB", "TB"];
const SPEEDS = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];

const known = (write) => (value) => (value === null || value === undefined ? NONE : write(value));
const digits = (value, count) => value.toLocaleString("en", { minimumFractionDigits: count, maximumFractionDigits: count });

function scaled(value, units, base, first = 0) {
  let unit = first;
  for (value /= base ** first; Math.abs(value) >= 999.5 && unit < units.length - 1; unit++) value /= base;
  return `${digits(value, unit > first && Math.abs(value) < 9.95 ? 1 : 0)} ${units[unit]}`;
}

export const text = known(String);
export const number = known((value) => digits(value, 0));
export const size = known((bytes) => scaled(bytes, SIZES, 1024));
export const rate = known((bytes) => (bytes ? scaled(bytes * 8, SPEEDS, 1000, 1) : "0"));
export const percent = known((part) => `${digits(part * 100, part < 0.0995 && part >= 0.0005 ? 1 : 0)} %`);
export const cost = known((times) => `${digits(times, times < 9.95 && times % 1 ? 1 : 0)}×`);
export const milliseconds = known((seconds) => {
  const value = seconds * 1000;
  return `${digits(value, value && value < 9.95 ? 1 : 0)} ms`;
});

export const duration = known((seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
});

const pad = (value) => String(value).padStart(2, "0");

export const clock = known((time) => {
  const date = new Date(time * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(pad).join(":");
});

export const day = known((time) => {
  const date = new Date(time * 1000);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
});

export const moment = known((time) => (time ? `${day(time)} ${clock(time)}` : NONE));
