// Asks lane once a second what it does, and shows it. Everything from lane is set as text.

import { Charts } from "./charts.js";
import * as format from "./format.js";
import { History } from "./history.js";
import { make } from "./table.js";
import { draw_theme } from "./theme.js";
import { tables } from "./tables.js";

const PERIOD = 1000; // milliseconds
const PATIENCE = 10000; // milliseconds until an answer is missed
const SECRET = "lane-secret"; // its name in the storage of this tab

const $ = (id) => document.getElementById(id);
const history = new History();
const charts = new Charts($("charts"), history);
let draw_tables = null;
let lane = ""; // role and version of what answers
let timer = 0;
let asking = false;
let silent_since = 0;

async function look() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  const begin = performance.now();
  const secret = sessionStorage.getItem(SECRET);
  const { status, found } = await request(secret).catch(() => ({ status: 0 }));
  asking = false;
  if (status === 401) return ask(secret !== null);
  if (!document.hidden) timer = setTimeout(look, Math.max(100, begin + PERIOD - performance.now()));
  silent_since = status ? 0 : silent_since || Date.now() / 1000;
  if (!status) tell(`lane does not answer since ${format.clock(silent_since)}, trying again`);
  else if (status !== 200) tell(`lane answers: ${found}`);
  else {
    tell("");
    show(found);
  }
}

// The status of the answer, and the view or else the reason why there is none.
async function request(secret) {
  const answer = await fetch(`api/view?since=${history.since}`, {
    headers: secret ? { Authorization: `Bearer ${secret}` } : {},
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE),
  });
  return { status: answer.status, found: answer.ok ? await answer.json() : (await answer.text()).trim().slice(0, 200) };
}

function tell(trouble) {
  $("trouble").textContent = trouble;
  $("trouble").hidden = !trouble;
  document.body.classList.toggle("stale", Boolean(trouble));
}

function ask(wrong) {
  sessionStorage.removeItem(SECRET);
  tell("");
  $("ask").hidden = false;
  $("view").hidden = true;
  $("wrong").hidden = !wrong;
  $("secret").focus();
}

function show(view) {
  const name = `${view.role} ${view.version}`;
  if (lane && lane !== name) return location.reload(); // another version may have another page
  lane = name;
  history.add(view);
  $("ask").hidden = true;
  $("view").hidden = false;
  document.title = `lane ${view.role}`;
  $("role").textContent = view.role;
  $("about").textContent = `${view.version}, process ${view.pid}, up ${format.duration(view.now - view.since)}`;
  $("headline").textContent = view.headline;
  show_figures(view);
  charts.draw(view.now);
  show_moves(view.role);
  draw_tables ??= tables(view.role, history);
  draw_tables(view);
}

function show_figures(view) {
  const goodput = view.lanes.reduce((sum, one) => sum + (one.goodput ?? 0), 0);
  const figures = {
    Sessions: format.number(view.session_count),
    Goodput: format.rate(goodput),
    ...(view.role === "server" && view.moved !== undefined ? { Moves: format.number(view.moved) } : {}),
    Memory: format.size(view.process.memory),
    "Event loop lag": format.milliseconds(view.process.lag),
  };
  const list = $("figures");
  if (!list.children.length) {
    for (const name of Object.keys(figures)) {
      const pair = make("div", "", list);
      make("dt", "", pair).textContent = name;
      make("dd", "", pair);
    }
  }
  Object.values(figures).forEach((text, at) => (list.children[at].lastChild.textContent = text));
}

function show_moves(role) {
  const { moves } = history;
  $("moves").hidden = role === "server";
  const list = $("moves").querySelector("ol");
  const newest = moves.length ? String(moves[moves.length - 1].time) : "";
  if (list.dataset.shown === `${moves.length} ${newest}`) return;
  list.dataset.shown = `${moves.length} ${newest}`;
  list.replaceChildren();
  for (const move of [...moves].reverse()) {
    const item = make("li", "", list);
    make("time", "", item).textContent = format.clock(move.time);
    make("b", "", item).textContent = `${format.text(move.from)} → ${format.text(move.to)}`;
    make("span", "", item).textContent = move.reason;
  }
  if (!moves.length) make("li", "note", list).textContent = "No moves in the last 15 minutes.";
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(SECRET, $("secret").value);
  $("secret").value = "";
  look();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
draw_theme($("theme"), () => charts.rebuild());
look();
