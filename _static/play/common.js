// What both pages share: a seeded random stream, and small helpers that make labelled controls.
"use strict";
window.Play = window.Play || {};
(function (Play) {
  const SVG = "http://www.w3.org/2000/svg";

  // Uniform numbers in (0, 1) from a seed (mulberry32): the same seed gives the same prompt in every browser.
  Play.rng = function (seed) {
    let state = seed >>> 0;
    return function () {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
  };

  // A standard normal number (Box and Muller).
  Play.normal = (uniform) => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  Play.el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  Play.svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  Play.set = (node, attributes) => fill(node, attributes, []);

  // A number with a true minus sign, of fixed width for the eye.
  Play.number = (value, digits) => {
    const text = Math.abs(value).toFixed(digits);
    return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
  };
  Play.signed = (value, digits) => (value < 0 ? "" : "+") + Play.number(value, digits);
  Play.scientific = (value) => {
    if (value === 0 || (Math.abs(value) >= 0.001 && Math.abs(value) < 1000)) return Play.number(value, 4);
    const [mantissa, exponent] = Math.abs(value).toExponential(2).split("e");
    return (value < 0 ? "−" : "") + mantissa + " × 10" + Play.raised(Number(exponent));
  };
  Play.raised = (integer) => String(integer).replace(/[-\d]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  Play.lowered = (integer) => String(integer).replace(/\d/g, (c) => "₀₁₂₃₄₅₆₇₈₉"[c]);

  // A slider with its label and its value (which a screen reader gets from the slider, not a second time). `show` turns the value
  // into text. `change` is called at every move with the value, and whether the move goes on: a drag is one move, so is a key.
  // A mark on the slider and a note below it keep the value before the last move.
  Play.slider = function ({ id, label, min, max, step, value, show, change }) {
    const output = Play.el("output", { for: id, id: id + "-value", "aria-live": "off" }, show(value));
    const input = Play.el("input", { type: "range", id, min, max, step, value, "aria-valuetext": show(value) });
    const mark = Play.el("span", { class: "play-last-mark", "aria-hidden": "true", hidden: true });
    const note = Play.el("span", { class: "play-last", id: id + "-last" });
    let [now, last, moving] = [value, value, false];
    input.addEventListener("change", () => { moving = false; });
    input.addEventListener("input", () => {
      if (!moving) last = now;
      now = Number(input.value);
      note.textContent = last === now ? "" : "last " + show(last);
      mark.hidden = last === now;
      mark.style.setProperty("--at", (last - min) / (max - min));
      output.textContent = show(now);
      input.setAttribute("aria-valuetext", show(now));
      change(now, moving);
      moving = true;
    });
    const track = Play.el("span", { class: "play-track" }, input, mark);
    return Play.el("div", { class: "play-control" }, Play.el("label", { for: id }, label), output, track, note);
  };

  // Switch a slider off, with the reason in sight and read out; or on, without one.
  Play.off = function (control, reason) {
    const input = control.querySelector("input");
    control.querySelector(".play-why")?.remove();
    input.disabled = reason !== "";
    control.title = reason;
    input.removeAttribute("aria-describedby");
    if (!reason) return;
    control.append(Play.el("span", { class: "play-why", id: input.id + "-why" }, reason));
    input.setAttribute("aria-describedby", input.id + "-why");
  };

  // A drop-down list; `options` are [value, text].
  Play.choice = function ({ id, label, options, value, change }) {
    const select = Play.el("select", { id, onchange: () => change(select.value) });
    Play.fillChoice(select, options, value);
    return Play.el("div", { class: "play-control" }, Play.el("label", { for: id }, label), select);
  };
  Play.fillChoice = function (select, options, value) {
    select.replaceChildren(...options.map(([key, text]) => Play.el("option", { value: key }, text)));
    select.value = value;
  };

  // A group of radio buttons in one line.
  Play.radios = function ({ name, label, options, value, change }) {
    const buttons = options.map(([key, text]) => {
      const attributes = { type: "radio", name, id: name + "-" + key, value: key, checked: key === value };
      const input = Play.el("input", { ...attributes, onchange: () => change(key) });
      return Play.el("label", { for: name + "-" + key }, input, " " + text);
    });
    return Play.el("fieldset", { class: "play-radios" }, Play.el("legend", {}, label), ...buttons);
  };

  // The round number 1, 2 or 5 times a power of ten that is at least `value`.
  Play.roundUp = function (value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 5, 10].map((factor) => factor * power).find((bound) => bound >= value * 0.999999);
  };
})(window.Play);
