// The tables of the page: lanes, sessions, users and workers, and which columns they have.

import { colour_of } from "./charts.js";
import * as format from "./format.js";
import { Table } from "./table.js";

const figure = (title, name, show, more) => ({ title, value: (one) => one[name], text: (one) => show(one[name]), ...more });
const words = (title, name, more) => ({ title, text: (one) => format.text(one[name]), ...more });
const minor = { minor: true };

// A function that draws all tables that a `role` has from a view. `history` has the order of the lanes.
export function tables(role, history) {
  const lane = { kind: "lane", mark: (one) => colour_of([...history.lanes.keys()], one.transport ?? one.name) };
  const all = role === "server" ? of_server(lane) : of_client(lane);
  const made = Object.entries(all).map(([name, [columns, key, data]]) => {
    const place = document.getElementById(name);
    return { place, data, table: new Table(place, columns, (one) => one[key]) };
  });
  for (const name of ["users", "workers"]) document.getElementById(name).hidden = !(name in all);
  return (view) => {
    for (const { place, table, data } of made) {
      const [rows, note] = data(view);
      table.draw(rows, note);
      if (place.id === "users") place.hidden = !rows.length;
    }
  };
}

const sessions = (view) => [view.sessions, counted(view.sessions.length, view.session_count)];
const counted = (shown, count) => (shown < count ? `${format.number(shown)} of ${format.number(count)} are shown.` : count ? "" : "None at the moment.");

const of_client = (lane) => ({
  lanes: [
    [
      words("Lane", "name", lane),
      { title: "State", text: (one) => [one.state, one.why].filter(Boolean).join(": ") || format.text(null) },
      figure("Goodput", "goodput", format.rate),
      figure("Loss", "loss", format.percent),
      figure("Round trip", "rtt", format.milliseconds),
      figure("Best", "best_rtt", format.milliseconds, minor),
      figure("Delay", "delay", format.milliseconds, minor),
      figure("CPU/byte", "cost", format.cost, minor),
      figure("Sessions", "sessions", format.number, minor),
    ],
    "name",
    (view) => [view.lanes],
  ],
  sessions: [[target, words("Transport", "transport", lane), ...traffic, age], "id", sessions],
});

const of_server = (lane) => ({
  lanes: [
    [
      words("Transport", "name", lane),
      figure("Goodput", "goodput", format.rate),
      figure("Loss", "loss", format.percent),
      figure("Round trip", "rtt", format.milliseconds),
      figure("Sessions", "sessions", format.number),
      figure("Carriers", "carriers", format.number, minor),
    ],
    "name",
    (view) => [view.lanes],
  ],
  sessions: [[target, words("User", "user"), words("Transport", "transport", { ...lane, minor: true }), ...traffic, age], "id", sessions],
  users: [
    [
      words("User", "name", { kind: "user", mark: (one) => (one.online ? "online" : "offline") }),
      figure("Sessions", "sessions", format.number, minor),
      ...traffic.map((column) => (column.title === "↓" ? { ...column, ...minor } : column)),
      { title: "Rate limit", value: (one) => one.rate_down, text: limit, kind: "figure", minor: true },
      { title: "Quota", value: (one) => (one.quota ? one.used / one.quota : null), text: quota },
      { title: "Expires", value: (one) => one.expires, text: (one) => (one.expires ? format.day(one.expires) : "never"), minor: true },
    ],
    "name",
    (view) => [view.users, view.users.length >= 200 ? "The first 200 are shown." : ""],
  ],
  workers: [
    [
      figure("Worker", "number", format.text, { kind: "" }),
      figure("Process", "pid", format.text, minor),
      figure("Sessions", "sessions", format.number),
      figure("Carriers", "carriers", format.number, minor),
      figure("Restarts", "restarts", format.number),
      figure("Started", "since", format.moment),
    ],
    "number",
    (view) => [view.workers.map((one, at) => ({ ...one, number: at + 1 }))],
  ],
});

const target = { title: "Target", text: (one) => format.text(one.target), kind: "target", title_of: (one) => one.target };
const age = figure("Age", "age", format.duration, minor);
const traffic = [
  figure("↓ now", "down_rate", format.rate),
  figure("↑ now", "up_rate", format.rate, minor),
  figure("↓", "down", format.size),
  figure("↑", "up", format.size, minor),
];
const limit = ({ rate_up, rate_down }) => {
  if (!rate_up && !rate_down) return "none";
  return rate_up === rate_down ? format.rate(rate_down) : `↓ ${format.rate(rate_down)}, ↑ ${format.rate(rate_up)}`;
};
const quota = (one) => (one.quota ? `${format.size(one.used)} of ${format.size(one.quota)}` : "none");
