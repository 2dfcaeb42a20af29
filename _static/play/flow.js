// Paper K's flow on a few particles, for sigma = erf and Gaussian inputs, where all expectations have a closed form.
// A measure is {a: N x k, w: N x d, p: N}. Formulas and names are those of icl_lib.mean_field (landscape, flow, measure).
"use strict";
window.Play = window.Play || {};
(function (Play) {
  const dot = (u, v) => {
    let sum = 0;
    for (let i = 0; i < u.length; i++) sum += u[i] * v[i];
    return sum;
  };
  const zeros = (n, m) => Array.from({ length: n }, () => new Array(m).fill(0));
  const addTo = (row, factor, other) => other.forEach((x, i) => (row[i] += factor * x));

  // K(w, v) = E[erf(w^T x) erf(v^T x)] = (2 / pi) arcsin z.
  const cosine = (w, v) => (2 * dot(w, v)) / Math.sqrt((1 + 2 * dot(w, w)) * (1 + 2 * dot(v, v)));
  const kernel = (w, v) => (2 / Math.PI) * Math.asin(cosine(w, v));

  // row += factor * grad_w K(w, v)
  function addKernelGradient(row, factor, w, v) {
    const z = cosine(w, v);
    const lengthW = 1 + 2 * dot(w, w);
    const outer = (factor * 2) / (Math.PI * Math.sqrt(1 - z * z));
    const [alongV, alongW] = [2 / Math.sqrt(lengthW * (1 + 2 * dot(v, v))), (2 * z) / lengthW];
    for (let i = 0; i < w.length; i++) row[i] += outer * (alongV * v[i] - alongW * w[i]);
  }

  // E[h_nu(x) sigma(w^T x)] for each row w.
  function features(rows, nu) {
    return rows.map((w) => {
      const found = new Array(nu.a[0].length).fill(0);
      nu.w.forEach((v, j) => addTo(found, kernel(w, v) * nu.p[j], nu.a[j]));
      return found;
    });
  }

  // E[h_mu' h_mu^T] from the features E[h_mu' sigma(w_i^T x)] of mu's particles.
  function covariance(found, mu) {
    const sigma = zeros(found[0].length, mu.a[0].length);
    found.forEach((f, i) => f.forEach((x, r) => addTo(sigma[r], x * mu.p[i], mu.a[i])));
    return sigma;
  }

  function inverse2([[a, b], [c, d]]) {
    const det = a * d - b * c;
    if (!(Math.abs(det) > 1e-14 * (a * d))) throw new Error(`B: must be invertible; its determinant is ${det}`);
    return [[d / det, -b / det], [-c / det, a / det]];
  }

  const product = (m, n) => m.map((row) => n[0].map((_, j) => row.reduce((sum, x, i) => sum + x * n[i][j], 0)));

  // -grad dL/dmu at each particle, the loss L = 1/2 tr Sigma_zeta, M = A B^-1, and Sigma_zeta's diagonal (what is missed).
  function velocity(teacher, mu) {
    const f = features(mu.w, teacher);
    const q = features(mu.w, mu);
    const a = covariance(f, mu);
    const b = covariance(q, mu);
    const c = covariance(features(teacher.w, teacher), teacher);
    const m = product(a, inverse2(b));
    const missed = c.map((row, r) => row[r] - dot(m[r], a[r]));
    const left = mu.a.map((row) => m.map((mRow) => dot(mRow, row))); // M a_i, one number per teacher output
    const speed = { a: [], w: [] };
    mu.w.forEach((w, i) => {
      const rest = f[i].map((x, r) => x - dot(m[r], q[i]));
      speed.a.push(mu.a[0].map((_, s) => rest.reduce((sum, x, r) => sum + x * m[r][s], 0)));
      const row = new Array(w.length).fill(0);
      teacher.w.forEach((v, j) => addKernelGradient(row, dot(left[i], teacher.a[j]) * teacher.p[j], w, v));
      mu.w.forEach((v, j) => addKernelGradient(row, -dot(left[i], left[j]) * mu.p[j], w, v));
      speed.w.push(row);
    });
    return { ...speed, loss: missed.reduce((sum, x) => sum + x, 0) / 2, m, left, missed };
  }

  // One explicit Euler step, shortened so that no more than `cap` is moved in root mean square.
  function step(teacher, state, dt, cap) {
    const v = velocity(teacher, state.mu);
    const speed2 = state.mu.p.reduce((sum, p, i) => sum + p * (dot(v.a[i], v.a[i]) + dot(v.w[i], v.w[i])), 0);
    const h = Math.min(dt, cap / Math.max(Math.sqrt(speed2), 1e-300));
    const moved = (rows, by) => rows.map((row, i) => row.map((x, j) => x + h * by[i][j]));
    const mu = { a: moved(state.mu.a, v.a), w: moved(state.mu.w, v.w), p: state.mu.p };
    return { mu, time: state.time + h };
  }

  const axis = (j, d, size) => Array.from({ length: d }, (_, i) => (i === j ? size : 0));
  const constant = (n, value) => new Array(n).fill(value);

  // Teacher neuron j on axis j, scaled so that output j has variance spectrum[j].
  function teacherOnAxes(spectrum, d, size) {
    const k = spectrum.length;
    const variance = kernel(axis(0, d, size), axis(0, d, size));
    const a = spectrum.map((value, j) => axis(j, k, k * Math.sqrt(value / variance)));
    return { a, w: spectrum.map((_, j) => axis(j, d, size)), p: constant(k, 1 / k) };
  }

  // A critical point that misses the outputs in `missing`: their neurons lie on axes that the teacher does not use.
  function saddle(k, d, size, missing, copies, uniform) {
    const mu = { a: [], w: [], p: [] };
    for (let j = 0; j < k; j++) {
      const masses = Array.from({ length: copies }, () => uniform() + 0.2);
      const total = masses.reduce((sum, x) => sum + x, 0);
      const place = missing.includes(j) ? k + missing.indexOf(j) : j;
      masses.forEach((mass) => {
        mu.a.push(axis(j, k, k));
        mu.w.push(axis(place, d, size));
        mu.p.push(mass / total / k);
      });
    }
    return mu;
  }

  // The documented random start: w ~ N(0, size^2 / d I), a = xi + tanh(w_1 .. w_k); without an axis if one is named.
  function randomStart(n, k, d, size, uniform, without) {
    const w = Array.from({ length: n }, () => Array.from({ length: d }, () => (size / Math.sqrt(d)) * Play.normal(uniform)));
    const a = w.map((row) => Array.from({ length: k }, (_, j) => Play.normal(uniform) + Math.tanh(row[j])));
    if (without !== undefined) w.forEach((row) => (row[without] = 0));
    return { a, w, p: constant(n, 1 / n) };
  }

  // All particles displaced at random (isotropic), by `budget` in root mean square; along none of the axes in `spared`.
  function perturb(mu, budget, uniform, spared) {
    const noise = (rows) => rows.map((row) => row.map(() => Play.normal(uniform)));
    const [a, w] = [noise(mu.a), noise(mu.w)];
    w.forEach((row) => spared.forEach((j) => (row[j] = 0)));
    const size = Math.sqrt(mu.p.reduce((sum, p, i) => sum + p * (dot(a[i], a[i]) + dot(w[i], w[i])), 0));
    const moved = (rows, by) => rows.map((row, i) => row.map((x, j) => x + (budget / size) * by[i][j]));
    return { a: moved(mu.a, a), w: moved(mu.w, w), p: mu.p };
  }

  Play.flow = { kernel, velocity, step, teacherOnAxes, saddle, randomStart, perturb };
})(window.Play);
