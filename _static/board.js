// The scoreboard can be filtered and sorted. Without this script the table is complete and in the ledger's order.
// What is shown stands in the address after "#", so that a view can be linked: #verdict=partly&q=softmax&sort=-seeds
"use strict";
(function () {
  const board = document.querySelector(".scoreboard");
  const table = board && board.querySelector("table");
  if (!table) return;

  const WORST_FIRST = ["not reproduced", "partly", "not yet measured", "theory only", "reproduced"];
  const KEYS = ["paper", "verdict", "q", "sort"];
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const rows = [...table.tBodies[0].rows].map((row, index) => {
    const said = [row.cells[0], ...row.querySelectorAll(".title, .finding, .clause")];
    return {
      row,
      paper: row.dataset.paper,
      verdict: row.dataset.verdict,
      text: plain(said.map((e) => `${e.textContent} ${e.title}`).join(" ")),
      keys: { claim: index, verdict: WORST_FIRST.indexOf(row.dataset.verdict), seeds: Number(row.dataset.seeds) || Infinity },
    };
  });
  const GROUPS = { paper: [...new Set(rows.map((r) => r.paper))], verdict: WORST_FIRST };
  const state = { paper: new Set(), verdict: new Set(), q: "", sort: "claim" };

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  // Whether a row is shown; without looking at one group of buttons, for the counts on that group.
  function shown(row, except) {
    const chosen = ["paper", "verdict"].every((g) => g === except || !state[g].size || state[g].has(row[g]));
    return chosen && plain(state.q).split(/\s+/).every((word) => row.text.includes(word));
  }

  function readHash() {
    const said = new URLSearchParams(location.hash.slice(1));
    for (const group of Object.keys(GROUPS)) {
      state[group] = new Set((said.get(group) || "").split(",").filter((value) => GROUPS[group].includes(value)));
    }
    state.q = said.get("q") || "";
    state.sort = (said.get("sort") || "").replace("-", "") in sorters ? said.get("sort") : "claim";
    return KEYS.some((key) => said.has(key));
  }

  function writeHash() {
    const said = new URLSearchParams();
    for (const group of Object.keys(GROUPS)) if (state[group].size) said.set(group, [...state[group]].join(","));
    if (state.q.trim()) said.set("q", state.q.trim());
    if (state.sort !== "claim") said.set("sort", state.sort);
    history.replaceState(null, "", said.toString() ? `#${said}` : location.pathname + location.search);
  }

  function draw() {
    const down = state.sort.startsWith("-");
    const key = state.sort.replace("-", "");
    const order = (a, b) => (a.keys[key] === b.keys[key] ? 0 : (a.keys[key] < b.keys[key]) === down ? 1 : -1);
    table.tBodies[0].append(...[...rows].sort((a, b) => order(a, b) || a.keys.claim - b.keys.claim).map((r) => r.row));
    for (const row of rows) row.row.hidden = !shown(row);
    for (const [name, button] of Object.entries(sorters)) {
      if (name === key) button.parentNode.setAttribute("aria-sort", down ? "descending" : "ascending");
      else button.parentNode.removeAttribute("aria-sort");
    }
    for (const { group, value, button, count } of toggles) {
      button.setAttribute("aria-pressed", state[group].has(value));
      count.textContent = rows.filter((row) => row[group] === value && shown(row, group)).length;
    }
    const n = rows.filter((row) => shown(row)).length;
    status.textContent = n === rows.length ? `All ${n} claims are shown.` : `${n} of ${rows.length} claims are shown.`;
    reset.disabled = !state.q && !state.paper.size && !state.verdict.size;
    if (search.value.trim() !== state.q.trim()) search.value = state.q;
  }

  function change() {
    draw();
    writeHash();
  }

  const sorters = {};
  for (const [index, name, does] of [[0, "claim", "Sort by claim"], [2, "verdict", "Sort by verdict, worst news first"], [4, "seeds", "Sort by number of seeds"]]) {
    const head = table.tHead.rows[0].cells[index];
    const turn = () => {
      state.sort = state.sort === name ? `-${name}` : name;
      change();
    };
    sorters[name] = el("button", { type: "button", title: does, click: turn }, head.textContent);
    head.replaceChildren(sorters[name]);
  }

  const toggles = [];
  function toggle(group, value) {
    const count = el("span", { class: "board-count" });
    const press = () => {
      if (!state[group].delete(value)) state[group].add(value);
      change();
    };
    const button = el("button", { type: "button", "aria-pressed": "false", click: press }, `${value} `, count);
    toggles.push({ group, value, button, count });
    return button;
  }
  const buttons = (group) => el("div", { role: "group", "aria-label": `Filter by ${group}` }, ...GROUPS[group].map((value) => toggle(group, value)));
  const search = el("input", {
    type: "search", id: "board-search", autocomplete: "off", spellcheck: "false", placeholder: "L4, attention, exponent …",
    input: () => {
      state.q = search.value;
      change();
    },
  });
  const reset = el("button", {
    type: "button",
    click: () => {
      Object.assign(state, { paper: new Set(), verdict: new Set(), q: "" });
      search.focus(); // a disabled button would lose it
      change();
    },
  }, "Show all");
  const status = el("p", { role: "status", "aria-live": "polite" });
  const label = el("label", { for: "board-search" }, "Search claims and clauses");
  board.prepend(el("div", { class: "board-controls" }, buttons("paper"), buttons("verdict"), el("div", {}, label, search, reset), status));

  const linked = readHash();
  draw();
  if (linked) board.scrollIntoView();
  window.addEventListener("hashchange", () => {
    if (readHash() || !location.hash) draw();
  });
})();
