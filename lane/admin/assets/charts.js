// Goodput, loss and round trip over the same 15 minutes. The background and a bar on top have the colour of the
// lane that carried then; its line is thick while it did. Moves are vertical marks.
/* global uPlot */

import * as format from "./format.js";
import { make } from "./table.js";

const SPAN = 900; // seconds
const LEAST_SPAN = 120; // seconds, right after the start
const HEIGHT = 124; // pixels
const HOURS = 18; // pixels more, for the times below the last chart
const NEAR = 8; // pixels between the pointer and a mark
const BAR = 3; // pixels
const COLOURS = 6;
// `scale` makes round numbers on the axis: bits, per cent, milliseconds.
const CHARTS = [
  { title: "Goodput", figure: "goodput", scale: 8, least: 1e6, show: format.rate },
  { title: "Loss", figure: "loss", scale: 100, least: 1, show: format.percent },
  { title: "Round trip", figure: "rtt", scale: 1000, least: 1, show: format.milliseconds },
];

// The class that gives something the colour of a lane. `names` are all lanes, in an order that stays.
export const colour_of = (names, name) => `lane${names.indexOf(name) % COLOURS}`;

export class Charts {
  constructor(place, history) {
    this.place = place;
    this.history = history;
    this.names = [];
    this.charts = [];
    this.now = 0;
    new ResizeObserver(() => this.#resize()).observe(place);
  }

  draw(now) {
    this.now = now;
    const names = [...this.history.lanes.keys()];
    if (names.join("\n") !== this.names.join("\n")) {
      this.names = names;
      this.rebuild();
    } else for (const chart of this.charts) this.#fill(chart);
  }

  // Make the charts anew: other lanes, or other colours.
  rebuild() {
    for (const { plot } of this.charts) plot.destroy();
    this.place.replaceChildren();
    if (!this.names.length) return;
    this.colours = new Map(this.names.map((name) => [name, this.#resolve(colour_of(this.names, name))]));
    this.ink = this.#resolve("faint");
    this.grid = this.#resolve("rule");
    this.charts = CHARTS.map((kind) => this.#make(kind));
  }

  #resolve(name) {
    const probe = make("span", name, this.place);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  #make(kind) {
    const box = make("figure", "chart", this.place);
    const caption = make("figcaption", "", box);
    make("b", "", caption).textContent = kind.title;
    const shown = this.names.map((name) => {
      const one = make("span", "value", caption);
      make("i", `chip ${colour_of(this.names, name)}`, one);
      one.append(name, " ");
      return make("output", "", one);
    });
    const chart = { kind, shown, tip: make("div", "tip") };
    chart.tip.hidden = true;
    chart.plot = new uPlot(this.#options(chart), [[], ...this.names.flatMap(() => [[], []])], box);
    chart.plot.over.append(chart.tip);
    chart.plot.over.addEventListener("mouseleave", () => (chart.tip.hidden = true));
    this.#fill(chart);
    return chart;
  }

  #options(chart) {
    const { least, scale, show } = chart.kind;
    const axis = {
      stroke: this.ink,
      grid: { stroke: this.grid, width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    return {
      width: this.#width,
      height: this.#height(chart),
      padding: [8, 0, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "lane" }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
      scales: {
        x: { range: () => this.#range() },
        y: { range: (_, __, most) => [0, Math.max(least, (most ?? 0) * 1.1)] },
      },
      axes: [
        { ...axis, ...this.#hours(chart), space: 64, incrs: [10, 30, 60, 120, 180, 300] },
        { ...axis, size: 66, gap: 6, space: 28, values: (_, all) => all.map((value) => show(value / scale).replace(".0 ", " ")) },
      ],
      series: [{}, ...this.names.flatMap((name) => this.#lines(name))],
      hooks: {
        drawClear: [(plot) => this.#shade(plot)],
        draw: [(plot) => this.#mark(plot)],
        setCursor: [() => this.#read(chart)],
      },
    };
  }

  #height({ kind }) {
    return HEIGHT + (kind === CHARTS.at(-1) ? HOURS : 0);
  }

  #hours({ kind }) {
    if (kind !== CHARTS.at(-1)) return { size: 6, values: (_, all) => all.map(() => "") };
    return { size: 6 + HOURS, values: (_, all) => all.map(hour) };
  }

  // The lines of a lane: whether or not it carries, and while it does.
  #lines(name) {
    const line = { stroke: this.colours.get(name), points: { show: false }, spanGaps: false };
    return [
      { ...line, width: 1, alpha: 0.55 },
      { ...line, width: 2 },
    ];
  }

  get #width() {
    return Math.max(200, this.place.clientWidth);
  }

  #resize() {
    for (const { plot } of this.charts) if (plot.width !== this.#width) plot.setSize({ width: this.#width, height: plot.height });
  }

  #range() {
    const first = this.history.times[0] ?? this.now;
    return [Math.max(this.now - SPAN, Math.min(first, this.now - LEAST_SPAN)), this.now];
  }

  #fill(chart) {
    const { figure, scale } = chart.kind;
    const lines = [...this.history.lanes.values()].flatMap((lane) => {
      const all = lane[figure].map((value) => (value === null ? null : value * scale));
      return [all, all.map((value, at) => (lane.carries[at] === 0 ? null : value))];
    });
    chart.plot.setData([this.history.times, ...lines]);
    this.#read(chart);
  }

  // Show the figures at the pointer, or else the last ones, and the move that is near.
  #read({ kind, shown, plot, tip }) {
    if (!plot) return; // its constructor calls this
    const { times, lanes, moves } = this.history;
    const at = plot.cursor.idx ?? times.length - 1;
    [...lanes.values()].forEach((lane, index) => (shown[index].textContent = kind.show(lane[kind.figure][at])));
    const { left } = plot.cursor;
    const away = (move) => Math.abs(plot.valToPos(move.time, "x") - left);
    const near = left < 0 || !plot.over.matches(":hover") ? [] : moves.filter((move) => away(move) <= NEAR);
    tip.hidden = !near.length;
    if (tip.hidden) return;
    const move = near.reduce((best, one) => (away(one) < away(best) ? one : best));
    tip.textContent = describe(move);
    const place = plot.valToPos(move.time, "x");
    const right = place > plot.over.clientWidth / 2;
    tip.style.left = right ? "" : `${place + 8}px`;
    tip.style.right = right ? `${plot.over.clientWidth - place + 8}px` : "";
  }

  // Colour the background by what carried.
  #shade(plot) {
    const { left, top, width, height } = plot.bbox;
    const { ctx } = plot;
    const { times } = this.history;
    const carriers = this.history.carriers();
    const x = (time) => Math.min(left + width, Math.max(left, plot.valToPos(time, "x", true)));
    ctx.save();
    for (let from = 0, to; from < times.length; from = to) {
      for (to = from + 1; to < times.length && carriers[to] === carriers[from]; ) to++;
      if (carriers[from] === null) continue;
      const [begin, end] = [x(times[from]), x(times[to] ?? this.now)];
      ctx.fillStyle = this.colours.get(carriers[from]);
      ctx.globalAlpha = 0.09;
      ctx.fillRect(begin, top, end - begin, height);
      ctx.globalAlpha = 1;
      ctx.fillRect(begin, top, end - begin, BAR * devicePixelRatio);
    }
    ctx.restore();
  }

  #mark(plot) {
    const { top, height, left, width } = plot.bbox;
    const { ctx } = plot;
    const unit = devicePixelRatio;
    ctx.save();
    for (const move of this.history.moves) {
      const x = Math.round(plot.valToPos(move.time, "x", true));
      if (x < left || x > left + width) continue;
      ctx.fillStyle = ctx.strokeStyle = this.colours.get(move.to) ?? this.ink;
      ctx.lineWidth = 1.5 * unit;
      ctx.setLineDash([3 * unit, 3 * unit]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(x - 5 * unit, top);
      ctx.lineTo(x + 5 * unit, top);
      ctx.lineTo(x, top + 8 * unit);
      ctx.fill();
    }
    ctx.restore();
  }
}

const hour = (time) => {
  const [hours, minutes, seconds] = format.clock(time).split(":");
  return seconds === "00" ? `${hours}:${minutes}` : `${hours}:${minutes}:${seconds}`;
};

const describe = (move) => `${format.clock(move.time)}  ${format.text(move.from)} → ${format.text(move.to)}: ${move.reason}`;
