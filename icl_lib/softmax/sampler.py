"""From random bits to prompts, compiled: the loop behind ``prompts.sample_prompts``, which says what is drawn."""

import numpy as np

from icl_lib.compiled import compiled

F = np.float32
SCALE = F(
    (1 - 2**-20) / 2**32
)  # 32 random bits become a number in (0, 1), cut by 2^-21 at both ends, so that rounding reaches neither


@compiled
def decode(
    bits,
    pairs,
    n_tasks,
    alpha,
    kappa_max,
    n_query,
    n_both,
    n_idr,
    n_idi,
    l,
    parts,
    kappa,
    label,
    query,
    query_kappa,
    target,
):
    """Fill the arrays of ``Prompts``, given 2 l + 3 numbers of 32 bits for each prompt of each member.

    ``n_query`` and ``n_both`` are the counts of the exact reading: contexts with the query's pattern, and with either of the
    task's. A negative ``n_both`` stands for the independent reading.
    """
    n, half, n_other = target.shape[1], F(0.5), 2 * (n_idr - 2)
    outcome = np.empty(l, np.int32)  # 0: (a, +1), 1: (b, -1), 2 ...: another pattern with either label
    for e in range(len(target)):
        a_e, rest = alpha[e], F(1) - alpha[e]
        stretch, stretch_other = F(2) / max(a_e, F(1e-9)), F(n_other) / max(rest, F(1e-9))
        for b in range(n):
            chosen = np.int64((F(bits[e, (2 * l + 1) * n + b]) * SCALE + half) * F(n_tasks[e]))
            first, second = np.int32(pairs[e, chosen, 0]), np.int32(pairs[e, chosen, 1])
            low, high = min(first, second), max(first, second)
            side = np.int32(
                (F(bits[e, (2 * l + 2) * n + b]) * SCALE + half) * F(2)
            )  # 0: the query carries mu_a, 1: mu_b
            if n_both[e] < 0:
                for t in range(l):
                    u = F(bits[e, b * l + t]) * SCALE + half
                    # [0, alpha) is stretched to [0, 2), outcomes a and b; [alpha, 1) to the others from 2 on.
                    outcome[t] = np.int32(min(u * stretch, F(2)) + max((u - a_e) * stretch_other, F(0)))
            else:
                for t in range(l):
                    u = F(bits[e, b * l + t]) * SCALE + half
                    of_pair = side if t < n_query[e] else 1 - side
                    outcome[t] = of_pair if t < n_both[e] else 2 + np.int32(u * F(n_other))
            for t in range(l):
                other = (outcome[t] - 2) >> 1
                other += 1 if other >= low else 0
                other += 1 if other >= high else 0
                parts[0, e, b, t] = first if outcome[t] == 0 else (second if outcome[t] == 1 else other)
            for t in range(l):
                label[e, b, t] = F(1) - F(2 * (outcome[t] & 1))
            # One number gives pattern and kappa: its integer multiple of 1/M2, and what is left over.
            double, single = F(2) * kappa_max[e], kappa_max[e]
            for t in range(l):
                scaled = (F(bits[e, (n + b) * l + t]) * SCALE + half) * F(n_idi)
                whole = np.int32(scaled)
                parts[1, e, b, t] = n_idr + whole
                kappa[e, b, t] = (scaled - F(whole)) * double - single
            scaled = (F(bits[e, 2 * l * n + b]) * SCALE + half) * F(n_idi)
            whole = np.int32(scaled)
            query[e, b, 0], query[e, b, 1] = second if side else first, n_idr + whole
            query_kappa[e, b] = (scaled - F(whole)) * double - single
            target[e, b] = F(1) - F(2 * side)
