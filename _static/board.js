// The scoreboard can be filtered, searched and sorted. Without this script the table is complete and in the ledger's order.
// What is shown stands in the address after "#", so that a view can be linked: #verdict=partly&q=softmax&sort=-verdict
"use strict";
(function () {
  const board = document.querySelector(".scoreboard");
  const table = board && board.querySelector("table");
  if (!table) return;

  const WORST_FIRST = ["not reproduced", "partly", "not yet measured", "theory only", "reproduced"];
  const WORDS = { "not reproduced": "✘ not reproduced or refuted", partly: "◐ partly", "not yet measured": "○ not yet measured", "theory only": "◇ theory only", reproduced: "✔ wholly reproduced or held" };
  const PAPERS = { "Open question": "Our own questions" };
  const KEYS = ["paper", "verdict", "q", "sort"];
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[-‐‑–]/g, " ").replace(/\s+/g, " ");
  const bodies = [...table.tBodies];
  const rows = bodies.flatMap((body) => [...body.querySelectorAll("tr[data-verdict]")]).map((row, index) => {
    const said = [row.cells[0], ...row.querySelectorAll(".title, .finding, .says, .clause")];
    // A claim is found by its verdict and by the verdicts on its clauses; as reproduced only where all of it is.
    const clauses = row.dataset.clauses.split(",").filter((verdict) => verdict && verdict !== "reproduced");
    return {
      row,
      body: row.parentNode,
      paper: [row.dataset.paper],
      verdict: [row.dataset.verdict, ...clauses],
      text: plain(said.map((e) => `${e.textContent} ${e.title}`).join(" ")),
      keys: { claim: index, verdict: WORST_FIRST.indexOf(row.dataset.verdict) },
    };
  });
  const GROUPS = { paper: [...new Set(rows.flatMap((r) => r.paper))], verdict: WORST_FIRST };
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
    const chosen = ["paper", "verdict"].every((g) => g === except || !state[g].size || row[g].some((value) => state[g].has(value)));
    return chosen && plain(state.q).trim().split(" ").every((word) => row.text.includes(word));
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
    for (const { row, body } of [...rows].sort((a, b) => order(a, b) || a.keys.claim - b.keys.claim)) body.append(row);
    for (const row of rows) row.row.hidden = !shown(row);
    for (const body of bodies) body.hidden = !rows.some((row) => row.body === body && !row.row.hidden);
    for (const [name, button] of Object.entries(sorters)) {
      if (name === key) button.parentNode.setAttribute("aria-sort", down ? "descending" : "ascending");
      else button.parentNode.removeAttribute("aria-sort");
    }
    for (const { group, value, button, count } of toggles) {
      const n = rows.filter((row) => row[group].includes(value) && shown(row, group)).length;
      button.setAttribute("aria-pressed", state[group].has(value));
      button.hidden = n === 0 && !state[group].has(value); // nothing there to find
      count.textContent = n;
    }
    const n = rows.filter((row) => shown(row)).length;
    status.textContent = n === rows.length ? `All ${n} entries are shown.` : `${n} of ${rows.length} entries are shown.`;
    reset.disabled = !state.q && !state.paper.size && !state.verdict.size;
    if (search.value.trim() !== state.q.trim()) search.value = state.q;
  }

  function change() {
    draw();
    writeHash();
  }

  const sorters = {};
  for (const [index, name, does] of [[0, "claim", "Sort by claim"], [2, "verdict", "Sort by verdict, worst news first"]]) {
    const head = table.tHead.rows[0].cells[index];
    const turn = () => {
      state.sort = state.sort === name ? `-${name}` : name;
      change();
    };
    sorters[name] = el("button", { type: "button", title: does, click: turn }, head.textContent);
    head.replaceChildren(sorters[name]);
  }

  const toggles = [];
  function toggle(group, value, text) {
    const count = el("span", { class: "board-count" });
    const press = () => {
      if (!state[group].delete(value)) state[group].add(value);
      change();
    };
    const button = el("button", { type: "button", "aria-pressed": "false", click: press }, `${text} `, count);
    toggles.push({ group, value, button, count });
    return button;
  }
  const buttons = (group, name, words) =>
    el("div", { role: "group", "aria-label": name }, ...GROUPS[group].map((value) => toggle(group, value, words[value] || value)));
  const search = el("input", {
    type: "search", id: "board-search", autocomplete: "off", spellcheck: "false", placeholder: "L4, pruning, finite width …",
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
  const label = el("label", { for: "board-search" }, "Search claims");
  const filters = [buttons("verdict", "Filter by verdict on a claim or one of its clauses", WORDS), buttons("paper", "Filter by paper", PAPERS)];
  board.prepend(el("div", { class: "board-controls" }, el("div", {}, label, search, reset), ...filters, status));

  const linked = readHash();
  draw();
  if (linked) board.scrollIntoView();
  window.addEventListener("hashchange", () => {
    if (readHash() || !location.hash) draw();
  });
})();
