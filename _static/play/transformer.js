// Paper L's learner, written out as in the paper on dense tokens; the library computes the same on codes.
//   F(P) = a^T ReLU(W_O sum_i W_V p_i softmax_i((W_K p_i)^T W_Q p_query))
"use strict";
window.Play = window.Play || {};
(function (Play) {
  const dot = (u, v) => u.reduce((sum, x, i) => sum + x * v[i], 0);
  const times = (matrix, vector) => matrix.map((row) => dot(row, vector));
  const timesTransposed = (matrix, vector) => matrix[0].map((_, j) => matrix.reduce((sum, row, i) => sum + row[j] * vector[i], 0));
  const sum = (vector) => vector.reduce((total, x) => total + x, 0);

  // Coefficients c of mu'_j = sum_i c[j][i] mu_i: orthonormal rows that sum to S1, made from the rows for S1 = 0.
  function mixing(rows, s1) {
    const [n, m1] = [rows.length, rows[0].length];
    const shrink = (1 - Math.sqrt(Math.max(0, 1 - (s1 * s1 * n) / m1))) / n;
    return rows.map((row) => row.map((x, i) => s1 / m1 + x - shrink * sum(rows.map((other) => other[i]))));
  }

  // Relevant and irrelevant patterns: the trained ones, or (with a number s1) new mixtures of them.
  function frame(model, s1) {
    if (s1 === null) return { relevant: model.relevant, irrelevant: model.irrelevant };
    const relevant = mixing(model.mixing, s1).map((c) => timesTransposed(model.relevant, c));
    return { relevant, irrelevant: model.new_irrelevant };
  }

  // (mu_j + kappa nu_k; y q); the query has the label 0.
  function token(model, patterns, { pattern, other, kappa, label }) {
    const input = patterns.relevant[pattern].map((x, i) => x + kappa * patterns.irrelevant[other][i]);
    return [...input, ...model.label.map((x) => (label || 0) * x)];
  }

  // Attention weights, neurons after the ReLU, and the output F of one prompt.
  // `which` is "trained" or "untrained", `s1` a number or null (in domain), `kept` says which neurons are left.
  function forward(model, prompt, { which, s1, kept }) {
    const weights = model[which];
    const patterns = frame(model, s1);
    const tokens = prompt.contexts.map((context) => token(model, patterns, context));
    const query = token(model, patterns, { ...prompt.query, label: 0 });
    const asked = timesTransposed(weights.w_k, times(weights.w_q, query));
    const scores = times(tokens, asked);
    const largest = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - largest));
    const total = sum(powers);
    const attention = powers.map((power) => power / total);
    const pooled = times(weights.w_v, timesTransposed(tokens, attention));
    const hidden = times(weights.w_o, pooled).map((x, i) => (kept[i] ? Math.max(0, x) : 0));
    return { attention, hidden, output: dot(weights.a, hidden) };
  }

  const rowLengths = (weights) => weights.w_o.map((row) => Math.sqrt(dot(row, row)));

  // Scores of the orders in which neurons can be pruned; the lowest go first.
  const ORDERS = {
    magnitude: (model, which) => rowLengths(model[which]),
    largest: (model, which) => rowLengths(model[which]).map((x) => -x),
    random: (model) => model.random_order,
    positive: (model, which) => model.random_order.map((x, i) => x - (model[which].a[i] > 0 ? model.random_order.length : 0)),
  };

  // Which neurons are left when a fraction `rate` is pruned.
  function keep(model, which, order, rate) {
    const scores = ORDERS[order](model, which);
    const byScore = scores.map((_, i) => i).sort((i, j) => scores[i] - scores[j] || i - j);
    const kept = scores.map(() => true);
    byScore.slice(0, Math.round(rate * scores.length)).forEach((i) => (kept[i] = false));
    return kept;
  }

  // Numbers of contexts with the query's and with its partner's pattern (exact counts, as in L1).
  function exactCounts(alpha, l) {
    const query = Math.max(Math.ceil((alpha * l) / 2 - 1e-9), alpha > 0 ? 1 : 0);
    return [query, Math.min(query, l - query)];
  }

  // The random numbers of a prompt of up to `most` contexts: moving a slider reuses them, a new prompt draws new ones.
  function draw(seed, most) {
    const uniform = Play.rng(seed);
    const one = () => ({ context: uniform(), other: uniform(), kappa: 2 * uniform() - 1 });
    return { side: uniform() < 0.5 ? 0 : 1, query: one(), contexts: Array.from({ length: most }, one) };
  }

  // A prompt of task (a, b) from random numbers. `share` is kappa / K, so that K can change afterwards.
  function compose(drawn, task, nPatterns, nOther, alpha, l) {
    const [nQuery, nPartner] = exactCounts(alpha, l);
    const rest = Array.from({ length: nPatterns }, (_, i) => i).filter((i) => !task.includes(i));
    const part = (u) => ({ other: Math.floor(u.other * nOther), share: u.kappa });
    const contexts = drawn.contexts.slice(0, l).map((u, i) => {
      const side = i < nQuery ? drawn.side : 1 - drawn.side;
      if (i < nQuery + nPartner) return { pattern: task[side], label: side === 0 ? 1 : -1, ...part(u) };
      const outcome = Math.floor(u.context * 2 * rest.length);
      return { pattern: rest[outcome >> 1], label: outcome % 2 ? -1 : 1, ...part(u) };
    });
    return { contexts, query: { pattern: task[drawn.side], ...part(drawn.query) } };
  }

  Play.transformer = { frame, forward, keep, rowLengths, exactCounts, draw, compose };
})(window.Play);
