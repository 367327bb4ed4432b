// A table whose columns sort. Cells are written only where their text changes, once a second.

export class Table {
  // `columns`: objects with `title`, `text` (of a row), `value` (to sort by; the text without it), and perhaps `kind`
  // (a class of its cells) and `minor` (left out where the screen is narrow). `key` identifies a row.
  constructor(place, columns, key) {
    this.columns = columns;
    this.key = key;
    this.rows = new Map();
    this.sorted = null; // a column
    this.falls = false;
    const box = make("div", "scroll", place);
    const table = make("table", "", box);
    const head = make("tr", "", make("thead", "", table));
    this.heads = columns.map((column) => {
      const cell = make("th", classes(column), head);
      cell.scope = "col";
      const button = make("button", "", cell);
      button.type = "button";
      button.textContent = column.title;
      button.addEventListener("click", () => this.sort(column));
      return cell;
    });
    this.body = make("tbody", "", table);
    this.note = make("p", "note", place);
  }

  sort(column) {
    const numeric = column.value !== undefined;
    if (this.sorted !== column) [this.sorted, this.falls] = [column, numeric];
    else if (this.falls === numeric) this.falls = !numeric;
    else this.sorted = null; // as lane gave them
    this.columns.forEach((one, at) => {
      const way = this.falls ? "descending" : "ascending";
      if (one === this.sorted) this.heads[at].ariaSort = way;
      else this.heads[at].removeAttribute("aria-sort");
    });
    this.draw(this.data, this.note.textContent);
  }

  draw(data, note = "") {
    this.data = data;
    const kept = new Map();
    let before = null;
    for (const one of this.#ordered(data)) {
      const key = this.key(one);
      const row = this.rows.get(key) ?? this.#row();
      this.columns.forEach((column, at) => write(row.cells[at], column, one));
      const next = before ? before.nextSibling : this.body.firstChild;
      if (next !== row) this.body.insertBefore(row, next);
      kept.set(key, (before = row));
    }
    for (const [key, row] of this.rows) if (kept.get(key) !== row) row.remove();
    this.rows = kept;
    this.note.textContent = note;
    this.note.hidden = !note;
  }

  #ordered(data) {
    if (!this.sorted) return data;
    const value = this.sorted.value ?? this.sorted.text;
    const compare = (one, other) => {
      const [a, b] = [value(one) ?? null, value(other) ?? null];
      if (a === null || b === null) return (a === null) - (b === null); // the unknown comes last
      return (typeof a === "string" ? a.localeCompare(b) : a - b) * (this.falls ? -1 : 1);
    };
    return [...data].sort(compare);
  }

  #row() {
    const row = document.createElement("tr");
    for (const column of this.columns) make("td", classes(column), row);
    return row;
  }
}

function write(cell, column, one) {
  const text = column.text(one);
  if (cell.textContent !== text) cell.textContent = text;
  if (column.title_of) cell.title = column.title_of(one) ?? "";
  if (column.mark) cell.className = `${classes(column)} ${column.mark(one)}`;
}

const classes = ({ value, kind, minor }) => [kind ?? (value ? "figure" : ""), minor ? "minor" : ""].join(" ").trim();

// A new element in `place`.
export function make(tag, name = "", place = null) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  place?.append(element);
  return element;
}
