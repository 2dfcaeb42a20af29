// The page "Play: particles": the flow runs in the browser, a few Euler steps per frame.
"use strict";
window.Play = window.Play || {};
(function (Play) {
  const { el, svg, set } = Play;
  const math = Play.flow;
  const [K, D, SIZE, COPIES, N] = [2, 4, 2, 15, 30]; // outputs, inputs, |w°|, particles per neuron of a saddle, particles
  const [DT, CAP, T_END, STOP_BELOW] = [0.2, 0.2, 600, 1e-5];
  const STARTS = {
    random: { name: "random", missing: [] },
    both: { name: "saddle that misses outputs 1, 2", missing: [0, 1] },
    first: { name: "saddle that misses output 1", missing: [0] },
    second: { name: "saddle that misses output 2", missing: [1] },
    blind: { name: "random, blind to axis 1", missing: [0] },
  };

  function start(root) {
    const reduced = window.matchMedia("(prefers-reduced-motion: reduce)");
    const choice = { start: "both", second: 0.5, symmetric: false, exponent: -4, pace: 4, seed: 1 };
    let teacher, uniform, state, now, history, trails, frame, stopped, former;

    function reset() {
      pause();
      uniform = Play.rng(choice.seed);
      teacher = math.teacherOnAxes([1, choice.second], D, SIZE);
      const { missing } = STARTS[choice.start];
      const mu = ["random", "blind"].includes(choice.start)
        ? math.randomStart(N, K, D, SIZE, uniform, missing[0])
        : math.saddle(K, D, SIZE, missing, COPIES, uniform);
      state = { mu, time: 0 };
      if (history?.length > 1) former = history; // the last run stays to be compared with
      history = [];
      trails = mu.w.map(() => []);
      stopped = null;
      look();
      draw();
      say("Reset.");
    }

    // Velocity and loss where the particles are now, and the record of both.
    function look() {
      now = math.velocity(teacher, state.mu);
      history.push([state.time, now.loss]);
      if (history.length % 3 === 1) state.mu.w.forEach((w, i) => trails[i].push([...w]));
    }
    function advance(steps) {
      try {
        for (let i = 0; i < steps && !stopped; i++) {
          state = math.step(teacher, state, DT, CAP);
          look();
          if (now.loss < STOP_BELOW) stopped = `the loss is below ${STOP_BELOW}`;
          if (state.time >= T_END) stopped = `time ${T_END} is reached`;
        }
      } catch (cause) {
        stopped = cause.message;
      }
      if (stopped) {
        pause();
        say(`Stopped: ${stopped}. ${summary()}`);
      }
    }
    function animate() {
      advance(choice.pace);
      draw();
      if (!stopped) frame = requestAnimationFrame(animate);
    }
    function pause() {
      if (frame) cancelAnimationFrame(frame);
      frame = null;
      run.textContent = reduced.matches ? "Run 100 steps" : "Start";
    }
    function toggle() {
      if (frame) {
        pause();
        say("Paused. " + summary());
      } else if (reduced.matches) {
        advance(100); // no animation: one jump a press
        draw();
        if (!stopped) say(summary());
      } else if (!stopped) {
        run.textContent = "Pause";
        say("Running.");
        frame = requestAnimationFrame(animate);
      }
    }
    function once() {
      pause();
      advance(1);
      draw();
      if (!stopped) say(summary());
    }
    function push() {
      const spared = choice.symmetric ? STARTS[choice.start].missing : [];
      state = { ...state, mu: math.perturb(state.mu, 10 ** choice.exponent, uniform, spared) };
      stopped = null;
      look();
      draw();
      say(`Perturbed by ${power(choice.exponent)}. ${summary()}`);
    }

    const power = (exponent) => "10" + Play.raised(exponent);
    const share = (j) => Math.max(0, now.missed[j] / [1, choice.second][j]);
    const formerly = () => (former ? `Last run: loss ${Play.scientific(former.at(-1)[1])} at time ${Play.number(former.at(-1)[0], 1)}.` : "");
    const summary = () => `Time ${Play.number(state.time, 1)}, loss ${Play.scientific(now.loss)}.`;
    function say(text) {
      status.textContent = text;
    }

    // Controls.
    const run = el("button", { type: "button", id: "flow-run", class: "play-button", onclick: toggle }, "Start");
    const button = (id, text, act) => el("button", { type: "button", id, class: "play-button", onclick: act }, text);
    const controls = el("div", { class: "play-controls" },
      Play.choice({ id: "flow-start", label: "Start", value: choice.start,
        options: Object.entries(STARTS).map(([key, { name }]) => [key, name]),
        change: (v) => { choice.start = v; reset(); } }),
      Play.slider({ id: "flow-second", label: "λ₂ of the teacher (λ₁ = 1)", min: 0.2, max: 1, step: 0.05, value: choice.second,
        show: (v) => Play.number(v, 2), change: (v) => { choice.second = v; reset(); } }),
      Play.slider({ id: "flow-epsilon", label: "ε, size of a perturbation", min: -8, max: -1, step: 1, value: choice.exponent,
        show: power, change: (v) => { choice.exponent = v; } }),
      Play.slider({ id: "flow-pace", label: "Steps per frame", min: 1, max: 20, step: 1, value: choice.pace, show: String,
        change: (v) => { choice.pace = v; } }),
      Play.radios({ name: "flow-kind", label: "Direction of a perturbation", value: "free",
        options: [["free", "any"], ["symmetric", "none along the missing axes"]],
        change: (v) => { choice.symmetric = v === "symmetric"; } }),
      el("div", { class: "play-buttons" }, run, button("flow-step", "Step", once), button("flow-perturb", "Perturb", push),
        button("flow-reset", "Reset", reset),
        button("flow-draw", "New draw", () => { choice.seed += 1; reset(); })));

    const status = el("p", { class: "play-note", role: "status", "aria-live": "polite", id: "flow-status" });
    const numbers = el("p", { class: "play-verdict", id: "flow-numbers" });
    const meters = [0, 1].map((j) => {
      const fill = el("span", { class: "play-bar-fill" });
      const text = el("span", { class: "play-value" });
      const item = el("div", { class: "play-meter play-output-" + (j + 1) }, el("span", {}, el("span", { class: "play-mark", "aria-hidden": "true" }, "●■"[j]), ` Missed of output ${j + 1}`),
        el("span", { class: "play-bar", "aria-hidden": "true" }, fill), text);
      return { fill, text, item };
    });
    const answer = el("div", { class: "play-answer" }, numbers, ...meters.map((meter) => meter.item), status);

    // Two slices of the inputs: the axes that the teacher uses, and the other two.
    const REACH = 3.6;
    const place = (value) => 150 + (140 * Math.max(-REACH, Math.min(REACH, value))) / REACH;
    function slice(first, title) {
      const inside = svg("g", {});
      const used = first === 0;
      const arrow = (x, y, j, faint) => svg("g", { class: `play-teacher play-output-${j + 1}` + (faint ? " play-faint" : "") },
        svg("line", { x1: place(0), y1: place(0), x2: place(x), y2: place(-y) }),
        svg(j === 0 ? "circle" : "rect", j === 0 ? { cx: place(x), cy: place(-y), r: 9 } : { x: place(x) - 8, y: place(-y) - 8, width: 16, height: 16 }));
      const picture = svg("svg", { viewBox: "0 0 300 322", class: "play-plot", role: "img" },
        svg("rect", { x: 10, y: 10, width: 280, height: 280, class: "play-frame" }),
        svg("line", { x1: 10, x2: 290, y1: 150, y2: 150, class: "play-grid" }),
        svg("line", { x1: 150, x2: 150, y1: 10, y2: 290, class: "play-grid" }),
        ...(used ? [arrow(SIZE, 0, 0), arrow(-SIZE, 0, 0, true), arrow(0, SIZE, 1), arrow(0, -SIZE, 1, true)] : []),
        inside,
        svg("text", { x: 150, y: 312, "text-anchor": "middle" }, `w${Play.lowered(first + 1)}`),
        svg("text", { x: 284, y: 32, "text-anchor": "end" }, `w${Play.lowered(first + 2)} ↑`));
      return { first, inside, picture, title };
    }
    const slices = [slice(0, "Axes 1 and 2 (teacher)"), slice(2, "Axes 3 and 4")];

    function drawParticles({ first, inside, picture, title }) {
      const lines = trails.map((trail) => {
        const shown = trail.slice(-400);
        const points = shown.map((w) => `${place(w[first]).toFixed(1)},${place(-w[first + 1]).toFixed(1)}`);
        return svg("polyline", { points: points.join(" "), class: "play-trail" });
      });
      // Shape and colour: the output that a particle serves most; hollow while it serves none.
      const marks = state.mu.w.map((w, i) => {
        const serves = now.left[i].map(Math.abs);
        const j = serves[1] > serves[0] ? 1 : 0;
        const idle = serves[j] < 0.1;
        const r = 3 + 8 * Math.sqrt(state.mu.p[i]);
        const [x, y] = [place(w[first]), place(-w[first + 1])];
        const kind = `play-particle play-output-${j + 1}` + (idle ? " play-idle" : "");
        return j === 0
          ? svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: r.toFixed(1), class: kind })
          : svg("rect", { x: (x - r).toFixed(1), y: (y - r).toFixed(1), width: (2 * r).toFixed(1), height: (2 * r).toFixed(1), class: kind });
      });
      inside.replaceChildren(...lines, ...marks);
      const near = [0, 1].map((j) => state.mu.w.filter((w) => Math.abs(w[j]) > 0.9 * Math.hypot(...w)).length);
      set(picture, { "aria-label": `${title}. Input weights of ${state.mu.w.length} particles; ${near[0]} point along axis 1 and ${near[1]} along axis 2, up to 26 degrees.` });
    }

    // The loss on a logarithmic axis, with the heights of the saddles.
    const curve = svg("svg", { viewBox: "0 0 440 252", class: "play-plot play-wide", role: "img" });
    function drawLoss() {
      const last = Math.max(60, Play.roundUp(Math.max(state.time, former?.at(-1)[0] || 1)));
      const x = (time) => 45 + (375 * time) / last;
      const y = (loss) => 12 + (208 * Math.log10(Math.max(loss, 1e-5))) / -5;
      const line = (run, kind) => {
        const every = Math.max(1, Math.floor(run.length / 600));
        const kept = run.filter((_, i) => i % every === 0 || i === run.length - 1);
        return svg("polyline", { points: kept.map(([t, loss]) => `${x(t).toFixed(1)},${y(loss).toFixed(1)}`).join(" "), class: kind });
      };
      const heights = [["1 and 2", (1 + choice.second) / 2], ["1", 0.5], ["2", choice.second / 2]];
      curve.replaceChildren(
        svg("line", { x1: 45, x2: 425, y1: 220, y2: 220, class: "play-axis" }),
        svg("line", { x1: 45, x2: 45, y1: 12, y2: 220, class: "play-axis" }),
        ...[0, -1, -2, -3, -4, -5].map((e) => svg("text", { x: 40, y: y(10 ** e) + 4, "text-anchor": "end" }, e === 0 ? "1" : power(e))),
        ...[0, 0.25, 0.5, 0.75, 1].map((f) => svg("text", { x: x(f * last), y: 234, "text-anchor": "middle" }, String(f * last))),
        svg("text", { x: 240, y: 247, "text-anchor": "middle" }, "time"),
        svg("text", { x: 52, y: 212 }, "loss L"),
        ...heights.map(([, height]) => svg("line", { x1: 45, x2: 425, y1: y(height), y2: y(height), class: "play-height" })),
        ...(former ? [line(former, "play-loss play-former")] : []),
        line(history, "play-loss"),
        svg("circle", { cx: x(state.time), cy: y(now.loss), r: 4, class: "play-here" }));
      set(curve, { "aria-label": `Loss over time on a logarithmic axis. ${summary()} Dashed: ${heights.map(([name, h]) => `${Play.number(h, 3)}, the saddle that misses ${name}`).join("; ")}. ${formerly()}` });
    }

    function draw() {
      numbers.replaceChildren(el("strong", {}, `Loss ${Play.scientific(now.loss)}`), ` at time ${Play.number(state.time, 1)}. `, formerly());
      meters.forEach(({ fill, text }, j) => {
        fill.style.width = Math.min(100, 100 * share(j)) + "%";
        text.textContent = (100 * share(j)).toFixed(1) + " %";
      });
      slices.forEach(drawParticles);
      drawLoss();
    }

    root.replaceChildren(controls, answer,
      el("div", { class: "play-slices" }, ...slices.map(({ picture, title }) => el("section", {}, el("h3", {}, title), picture))),
      el("p", { class: "play-note" }, "A dot is a particle's input weights, its size the mass. ● serves output 1, ■ output 2; hollow: neither. " +
        "Large outlines: the teacher's neurons, and (dashed) their mirror images, which do the same since erf is odd."),
      el("section", {}, el("h3", {}, "Loss"), curve,
        el("p", { class: "play-note" }, "Dashed: the heights of the saddles that miss outputs 1 and 2, output 1, and output 2. Grey: the last run, kept by a reset.")));
    reset();
    // For the tests.
    Play.flowPage = { get: () => ({ teacher, state, now, choice }), advance: (steps) => { advance(steps); draw(); }, DT, CAP };
  }

  const root = document.getElementById("play-flow");
  if (root) start(root);
})(window.Play);
