// The prompt on the front page: one slider moves the attention, one button swaps what A and B mean. The page holds it ready at one
// setting (book/hero.py), and is complete without this script. A test compares its numbers with the library's.
"use strict";
(function () {
  const hero = document.querySelector(".hero");
  if (!hero) return;
  const { query, task } = hero.dataset;
  const cards = [...hero.querySelectorAll(".hero-card")].map((node) => ({
    node,
    letter: node.dataset.letter,
    label: Number(node.dataset.label),
    sign: node.querySelector(".hero-sign"),
    bar: node.querySelector(".hero-bar span"),
    weight: node.querySelector(".hero-weight"),
  }));
  const state = { g: Number(hero.dataset.g), swapped: false };

  // Softmax attention: a card with the query's letter scores g, any other 0; then the labels vote with their weights.
  function attend(g, swapped) {
    const powers = cards.map((card) => Math.exp(card.letter === query ? g : 0));
    const total = powers.reduce((sum, x) => sum + x, 0);
    const weights = powers.map((x) => x / total);
    const labels = cards.map((card) => (swapped && task.includes(card.letter) ? -card.label : card.label));
    return { weights, labels, answer: weights.reduce((sum, w, i) => sum + w * labels[i], 0) };
  }

  const sign = (value) => (value > 0 ? "+" : "−");
  const number = (value) => sign(value) + Math.abs(value).toFixed(2);
  const percent = (value) => Math.round(100 * value) + "\u00a0%";

  function draw() {
    const { weights, labels, answer } = attend(state.g, state.swapped);
    cards.forEach((card, i) => {
      card.node.dataset.sign = card.sign.textContent = sign(labels[i]);
      card.bar.style.setProperty("--w", weights[i]);
      card.weight.textContent = percent(weights[i]);
    });
    const face = hero.querySelector(".hero-query");
    face.dataset.sign = face.querySelector(".hero-sign").textContent = sign(answer);
    face.style.setProperty("--sure", Math.abs(answer));
    hero.querySelector(".hero-axis i").style.left = 50 * (1 + answer) + "%";
    hero.querySelector(".hero-number").textContent = number(answer);
    const on = cards.reduce((sum, card, i) => sum + (card.letter === query ? weights[i] : 0), 0);
    slider.setAttribute("aria-valuetext", `g = ${state.g.toFixed(1)}: ${percent(on)} of the attention on the ${query}'s, answer ${number(answer)}`);
    shown.textContent = "g = " + state.g.toFixed(1);
    swap.setAttribute("aria-pressed", state.swapped);
  }

  const make = (tag, attributes, text) => Object.assign(document.createElement(tag), attributes, text ? { textContent: text } : {});
  const slider = make("input", { type: "range", id: "hero-g", min: 0, max: 8, step: 0.1, value: state.g });
  const label = make("label", { htmlFor: "hero-g" }, `Attention to examples with the query's letter`);
  const shown = make("output", { className: "hero-g" });
  const swap = make("button", { type: "button", className: "hero-swap" }, `Swap what ${task[0]} and ${task[1]} mean`);
  const told = make("p", { className: "visually-hidden" });
  shown.setAttribute("for", "hero-g");
  shown.setAttribute("aria-live", "off"); // the slider says it
  told.setAttribute("role", "status");
  slider.addEventListener("input", () => {
    state.g = Number(slider.value);
    draw();
  });
  swap.addEventListener("click", () => {
    state.swapped = !state.swapped;
    draw();
    told.textContent = `Now ${cards.map((card) => card.letter + " " + (card.sign.textContent === "+" ? "plus" : "minus")).join(", ")}: answer ${hero.querySelector(".hero-number").textContent}`;
  });
  const controls = make("div", { className: "hero-controls" });
  controls.append(label, slider, shown, swap, told);
  hero.append(controls);
  hero.attend = attend; // for the test
  draw();
})();
