// What the page remembers of the last 15 minutes. Each answer brings only what is new, so a restart of lane
// takes nothing away.

const SPAN = 900; // seconds
const AGAIN = 2; // seconds
const MOST_MOVES = 200;
const FIGURES = ["goodput", "loss", "rtt", "carries"];

export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.times = [];
    this.lanes = new Map(); // figures by the name of the lane: arrays as long as `times`
    this.moves = [];
  }

  // What to ask from. The newest seconds are asked for again: not all processes of a server may have told them.
  get since() {
    return Math.max(0, this.last - AGAIN);
  }

  get last() {
    return this.times.length ? this.times[this.times.length - 1] : 0;
  }

  // Take the history and the moves of an answer.
  add({ now, history, moves }) {
    if (now < this.last - 2) this.clear(); // its clock was set back
    const { times, lanes, step } = history;
    for (const name of Object.keys(lanes).sort()) if (!this.lanes.has(name)) this.#begin(name);
    const known = this.times.findIndex((time) => time >= times[0]);
    if (known >= 0) this.#cut(known, this.times.length);
    times.forEach((time, at) => {
      if (this.times.length && time - this.last > 2.5 * step) this.#push(this.last + step, () => null); // a gap in the lines
      this.#push(time, (name, figure) => lanes[name]?.[figure][at] ?? null);
    });
    const first = now - SPAN;
    const old = this.times.findIndex((time) => time >= first);
    if (old > 0) this.#cut(0, old);
    const seen = new Set(this.moves.map(identify));
    this.moves.push(...moves.filter((move) => !seen.has(identify(move))));
    this.moves = this.moves.filter((move) => move.time >= first).slice(-MOST_MOVES);
  }

  // The name of the lane that carried at each time; null where that is unknown.
  carriers() {
    const lanes = [...this.lanes];
    return this.times.map((_, at) => lanes.find(([, lane]) => lane.carries[at])?.[0] ?? null);
  }

  #begin(name) {
    this.lanes.set(name, Object.fromEntries(FIGURES.map((figure) => [figure, this.times.map(() => null)])));
  }

  #cut(from, to) {
    this.times.splice(from, to - from);
    for (const lane of this.lanes.values()) for (const figure of FIGURES) lane[figure].splice(from, to - from);
  }

  #push(time, value) {
    this.times.push(time);
    for (const [name, lane] of this.lanes) for (const figure of FIGURES) lane[figure].push(value(name, figure));
  }
}

const identify = (move) => `${move.time} ${move.from} ${move.to}`;
