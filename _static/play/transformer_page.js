// The page "Play: a prompt": controls on one side, what the model computes on the other. All of it is redrawn at every
// change, from one `state`; nothing is remembered in the page itself.
"use strict";
window.Play = window.Play || {};
(function (Play) {
  const { el, svg, set } = Play;
  const math = Play.transformer;
  const MOST = 30; // contexts
  const SIGNS = { 1: "+1", "-1": "−1" };

  function start(root) {
    const model = Play.model;
    const config = model.config;
    const trainedOn = new Set(config.tasks.map(String));
    const startLengths = math.rowLengths(model.untrained);
    const state = {
      seed: 1, which: "trained", fresh: false, s1: 1, alpha: config.prompts.alpha, kappaMax: config.prompts.kappa_max,
      l: config.prompts.n_context, rate: 0, order: "magnitude", task: null, prompt: null,
    };

    const nPatterns = () => (state.fresh ? model.mixing.length : model.relevant.length);
    const patternName = (j) => "μ" + (state.fresh ? "′" : "") + Play.lowered(j + 1);

    function tasks() {
      const every = Array.from({ length: nPatterns() }, (_, a) => a);
      return every.flatMap((a) => every.filter((b) => b !== a).map((b) => [a, b]));
    }
    function taskName([a, b]) {
      const seen = state.fresh ? "" : trainedOn.has(String([a, b])) ? " (seen in training)" : " (never seen)";
      return `${patternName(a)} means +1, ${patternName(b)} means −1${seen}`;
    }

    // The prompt as the model reads it: kappa is the chosen share of K.
    function prompt() {
      const part = ({ share, ...rest }) => ({ ...rest, kappa: share * state.kappaMax });
      return { query: part(state.prompt.query), contexts: state.prompt.contexts.map(part) };
    }
    function settings() {
      const kept = math.keep(model, state.which, state.order, state.rate);
      return { which: state.which, s1: state.fresh ? state.s1 : null, kept };
    }

    function compose() {
      const drawn = math.draw(state.seed, MOST);
      state.prompt = math.compose(drawn, state.task, nPatterns(), model.irrelevant.length, state.alpha, state.l);
    }
    function changePatterns(fresh) {
      state.fresh = fresh;
      const known = tasks();
      const unseen = known.filter((task) => fresh || !trainedOn.has(String(task)));
      state.task = unseen[0];
      Play.fillChoice(taskSelect, known.map((task) => [String(task), taskName(task)]), String(state.task));
      const options = Array.from({ length: nPatterns() }, (_, j) => [j, patternName(j)]);
      [querySelect, ...rows.map((row) => row.pattern)].forEach((select) => Play.fillChoice(select, options, 0));
      Play.off(s1Control, fresh ? "" : "Off: trained patterns are no mixtures. Choose “new mixtures (μ′)”.");
      compose();
    }
    // A change, and what was answered before it; while a slider is dragged, before the drag.
    const then = (change) => (value, goesOn) => {
      if (goesOn !== true) before = shown;
      change(value);
      draw();
    };
    let [before, shown] = [null, null]; // outputs F

    // Controls.
    const control = (options) => Play.slider({ ...options, id: "play-" + options.id, change: then(options.change) });
    const percent = (value) => Math.round(100 * value) + " %";
    const two = (value) => Play.number(value, 2);
    const s1Control = control({ id: "s1", label: "S₁, coefficient sum of a new pattern", min: -1.4, max: 1.4, step: 0.05,
      value: state.s1, show: two, change: (v) => { state.s1 = v; } });
    const taskControl = Play.choice({ id: "play-task", label: "Task", options: [], value: null,
      change: then((v) => { state.task = v.split(",").map(Number); compose(); }) });
    const taskSelect = taskControl.querySelector("select");
    const controls = el("div", { class: "play-controls" },
      Play.radios({ name: "play-which", label: "Model", value: state.which,
        options: [["untrained", "untrained"], ["trained", "trained"]], change: then((v) => { state.which = v; }) }),
      Play.radios({ name: "play-patterns", label: "Patterns", value: "trained",
        options: [["trained", "trained on (μ)"], ["new", "new mixtures (μ′)"]],
        change: then((v) => changePatterns(v === "new")) }),
      taskControl,
      control({ id: "alpha", label: "α′, share of relevant contexts", min: 0, max: 1, step: 0.05,
        value: state.alpha, show: two, change: (v) => { state.alpha = v; compose(); } }),
      control({ id: "contexts", label: "l, number of contexts", min: 2, max: MOST, step: 1, value: state.l, show: String,
        change: (v) => { state.l = v; compose(); } }),
      control({ id: "kappa", label: "K, largest size of the irrelevant part κ", min: 0, max: 3, step: 0.1,
        value: state.kappaMax, show: two, change: (v) => { state.kappaMax = v; } }),
      s1Control,
      control({ id: "rate", label: "Share of neurons pruned", min: 0, max: 1, step: 0.01, value: state.rate, show: percent,
        change: (v) => { state.rate = v; } }),
      Play.choice({ id: "play-order", label: "Pruned first", value: state.order,
        options: [["magnitude", "short rows of W_O"], ["largest", "long rows of W_O"], ["random", "in random order"],
          ["positive", "neurons with a > 0"]], change: then((v) => { state.order = v; }) }),
      el("button", { type: "button", id: "play-new", class: "play-button", onclick: then(() => { state.seed += 1; compose(); }) },
        "New prompt"));

    // The answer.
    const verdict = el("p", { class: "play-verdict", role: "status", "aria-live": "polite", id: "play-verdict" });
    const position = (value) => 150 + 65 * Math.max(-2.1, Math.min(2.1, value));
    const needle = svg("path", { d: "M0 20 l-7 -12 h14 z", class: "play-needle" });
    const formerNeedle = svg("path", { d: "M0 20 l-7 -12 h14 z", class: "play-needle play-former" });
    const gauge = svg("svg", { viewBox: "0 0 300 40", class: "play-gauge", "aria-hidden": "true" },
      svg("line", { x1: position(-2), x2: position(2), y1: 21, y2: 21, class: "play-axis" }),
      ...[-2, -1, 0, 1, 2].flatMap((v) => [
        svg("line", { x1: position(v), x2: position(v), y1: 21, y2: 25, class: "play-axis" }),
        svg("text", { x: position(v), y: 37, "text-anchor": "middle" }, v < 0 ? "−" + -v : String(v))]),
      formerNeedle, needle);
    const former = el("p", { class: "play-note", id: "play-former" });
    const answer = el("div", { class: "play-answer" }, verdict, former, gauge);

    // The contexts. Rows are kept and filled anew, so that the focus stays where it is.
    const rows = [];
    const list = el("ol", { class: "play-contexts", "aria-label": "Contexts of the prompt" });
    function addRow() {
      const i = rows.length;
      const row = {
        mark: el("span", { class: "play-mark", "aria-hidden": "true" }),
        pattern: el("select", { "aria-label": `Pattern of context ${i + 1}`,
          onchange: then(() => { state.prompt.contexts[i].pattern = Number(row.pattern.value); }) }),
        other: el("span", { class: "play-other" }),
        label: el("button", { type: "button", class: "play-label",
          onclick: then(() => { state.prompt.contexts[i].label *= -1; }) }),
        bar: el("span", { class: "play-bar-fill" }),
        value: el("span", { class: "play-value" }),
      };
      row.item = el("li", {}, row.mark, row.pattern, row.other, row.label,
        el("span", { class: "play-bar", "aria-hidden": "true" }, row.bar), row.value);
      rows.push(row);
      list.append(row.item);
    }
    while (rows.length < MOST) addRow();
    const querySelect = el("select", { "aria-label": "Pattern of the query",
      onchange: then(() => { state.prompt.query.pattern = Number(querySelect.value); }) });
    const queryOther = el("span", { class: "play-other" });
    const query = el("p", { class: "play-query" }, el("strong", {}, "Query"), " ", querySelect, queryOther, el("span", {}, " label: ?"));
    const mass = el("p", { class: "play-note", id: "play-mass" });
    const scale = el("p", { class: "play-note" });

    function drawContexts(found) {
      const { query: asked, contexts } = prompt();
      const irrelevant = ({ other, kappa }) => `${Play.signed(kappa, 2)} ν${state.fresh ? "′" : ""}${Play.lowered(other + 1)}`;
      querySelect.value = asked.pattern;
      queryOther.textContent = irrelevant(asked);
      const full = Math.min(1, Play.roundUp(Math.max(...found.attention))); // weight of a bar of full length
      let same = 0;
      let onSame = 0;
      rows.forEach((row, i) => {
        row.item.hidden = i >= contexts.length;
        if (row.item.hidden) return;
        const { pattern, label } = contexts[i];
        const isSame = pattern === asked.pattern;
        const weight = found.attention[i];
        same += isSame;
        onSame += isSame ? weight : 0;
        row.item.className = isSame ? "play-same" : "play-different";
        row.mark.textContent = isSame ? "●" : "○";
        row.pattern.value = pattern;
        row.other.textContent = irrelevant(contexts[i]);
        row.label.textContent = SIGNS[label];
        row.label.setAttribute("aria-label", `Label of context ${i + 1}: ${label === 1 ? "plus one" : "minus one"}; press to turn it round`);
        row.bar.style.width = (100 * weight) / full + "%";
        row.value.textContent = (100 * weight).toFixed(1) + " %";
      });
      mass.textContent = `Attention on the ${same} of ${contexts.length} contexts with the query's pattern: ${(100 * onSame).toFixed(1)} %.`;
      scale.textContent = `● the query's pattern, ○ another one. A full bar is ${Number((100 * full).toPrecision(2))} %. Press a label to turn it round.`;
    }

    // The neurons: length of the row of W_O against activation, drawn up for a > 0 and down for a < 0.
    const picture = svg("svg", { viewBox: "0 0 360 250", class: "play-plot", role: "img" });
    const neuronNote = el("p", { class: "play-note", id: "play-neurons" });
    const longest = Play.roundUp(Math.max(...math.rowLengths(model.trained))) * 0.8;
    const shape = { 1: "M0 -4.5 l4.5 8 h-9 z", "-1": "M0 4.5 l4.5 -8 h-9 z" };

    function drawNeurons(found, kept) {
      const weights = model[state.which];
      const lengths = math.rowLengths(weights);
      const top = Play.roundUp(Math.max(0.05, ...found.hidden));
      const x = (length) => 40 + (310 * length) / longest;
      const y = (value) => 115 - (95 * value) / top;
      const axes = [
        svg("line", { x1: 40, x2: 350, y1: y(0), y2: y(0), class: "play-axis" }),
        svg("line", { x1: 40, x2: 40, y1: y(top), y2: y(-top), class: "play-axis" }),
        ...[top, top / 2, 0, -top / 2, -top].map((v) => svg("text", { x: 36, y: y(v) + 4, "text-anchor": "end" }, String(Math.abs(v)))),
        ...[0, 0.2, 0.4, 0.6, 0.8].map((v) => svg("text", { x: x(v), y: 228, "text-anchor": "middle" }, String(v))),
        svg("text", { x: 195, y: 245, "text-anchor": "middle" }, "length of the neuron's row of W_O"),
        svg("text", { x: 48, y: 12 }, "▲ activation, neurons that vote +1"),
        svg("text", { x: 48, y: 216 }, "▼ activation, neurons that vote −1"),
      ];
      const marks = lengths.map((length, i) => {
        const sign = Math.sign(weights.a[i]);
        const small = length < 2 * startLengths[i];
        const kind = kept[i] ? (sign > 0 ? "play-plus" : "play-minus") + (small ? " play-small" : "") : "play-pruned";
        const where = `translate(${x(length).toFixed(2)} ${y(sign * found.hidden[i]).toFixed(2)})`;
        return svg("path", { d: kept[i] ? shape[sign] : "M-3.5 -3.5 L3.5 3.5 M-3.5 3.5 L3.5 -3.5", class: kind, transform: where });
      });
      picture.replaceChildren(...axes, ...marks);
      const fires = (sign) => found.hidden.filter((h, i) => h > 0 && Math.sign(weights.a[i]) === sign).length;
      const short = lengths.filter((length, i) => length < 2 * startLengths[i]).length;
      neuronNote.textContent = `${fires(1)} neurons fire for +1 and ${fires(-1)} for −1; ${kept.filter((k) => !k).length} of ${kept.length} are pruned; ` +
        `${short} rows are small (less than twice their length at the start).`;
      set(picture, { "aria-label": "Activation of each neuron against the length of its row of W_O. " + neuronNote.textContent });
    }

    function drawAnswer(found) {
      const [a, b] = state.task;
      const pattern = state.prompt.query.pattern;
      const right = pattern === a ? 1 : pattern === b ? -1 : 0;
      const said = Math.sign(found.output);
      const named = (output) => SIGNS[Math.sign(output)] || "none";
      const prediction = named(found.output);
      let comment = "The query has no pattern of the task: no answer is right.";
      if (right) {
        const loss = Math.max(0, 1 - right * found.output);
        const judged = said === right ? "✓ Right" : said ? "✗ Wrong" : "✗ No answer, half an error";
        comment = `${judged}: the task says ${SIGNS[right]}; hinge loss ${Play.number(loss, 3)}.`;
      }
      verdict.replaceChildren(el("strong", {}, `Prediction ${prediction}`), `, F = ${Play.number(found.output, 4)}. ${comment}`);
      needle.setAttribute("transform", `translate(${position(found.output)} 0)`);
      shown = found.output;
      formerNeedle.setAttribute("visibility", before === null ? "hidden" : "visible");
      formerNeedle.setAttribute("transform", `translate(${position(before || 0)} 0)`);
      former.textContent = before === null ? "Change something: what was answered before is kept here."
        : `Before the last change: prediction ${named(before)}, F = ${Play.number(before, 4)} (hollow mark).`;
    }

    function result() {
      return math.forward(model, prompt(), settings());
    }
    function draw() {
      const found = result();
      drawAnswer(found);
      drawContexts(found);
      drawNeurons(found, settings().kept);
    }

    root.replaceChildren(controls, answer,
      el("div", { class: "play-columns" },
        el("section", {}, el("h3", {}, "Attention"), query, mass, list, scale),
        el("section", { class: "play-beside" }, el("h3", {}, "Neurons"), picture, neuronNote,
          el("p", { class: "play-note" }, "Filled: large rows. Hollow: small rows. ✕: pruned. F is a sum over neurons: the activations drawn upwards, " +
            `minus those drawn downwards, times ${Math.abs(model.trained.a[0])}.`))));
    changePatterns(false);
    draw();
    // For the tests: what is shown, and what it was computed from.
    Play.transformerPage = { prompt, settings, result, state };
  }

  const root = document.getElementById("play-transformer");
  if (root) start(root);
})(window.Play);
