"""Compiled: sums over pairs of neurons of zonal kernels alpha(w) alpha(v) kappa(phi(w)^T phi(v)), and of their gradients.

Z = phi(W) phi(V)^T exists one block at a time. Where V is W, half of the blocks is computed.
"""

import numpy as np

from icl_lib.compiled import compiled, times

ERF, RELU = 0, 1  # kinds of kernels
BLOCK = 64  # rows and columns of a block: two of them take 64 kB
PAD = 8  # rows of what ``times`` adds up are multiples of so many numbers


@compiled
def _embed(kind, w, phi, scale):
    """phi = scale w, by rows; alpha is sqrt(2 / pi) for erf and 1 / scale for ReLU."""
    for i in range(len(w)):
        square = 0.0
        for x in range(w.shape[1]):
            square += w[i, x] * w[i, x]
        scale[i] = 1 / np.sqrt(0.5 + square if kind == ERF else square)
        for x in range(w.shape[1]):
            phi[i, x] = w[i, x] * scale[i]


@compiled
def _alpha(kind, scale):
    return np.sqrt(2 / np.pi) if kind == ERF else 1 / scale


@compiled
def _arcsin(z, n, m):
    """arcsin of z[:n, :m], in [-1, 1], to two roundings by fdlibm's rational function; not a number beyond."""
    for i in range(n):
        for j in range(m):
            size = abs(z[i, j])
            large = size > 0.5
            t = (1 - size) * 0.5 if large else size * size
            root = np.sqrt(t) if large else size
            p = 0.7915349942898145e-3 + t * 3.479331075960212e-05
            p = 0.20121253213486293 + t * (-0.04005553450067941 + t * p)
            p = t * (0.16666666666666666 + t * (-0.3255658186224009 + t * p))
            q = -0.6882839716054533 + t * 0.07703815055590194
            q = 1 + t * (-2.403394911734414 + t * (2.0209457602335057 + t * q))
            near = root + root * (p / q)
            found = np.pi / 2 - 2 * near if large else near
            z[i, j] = -found if z[i, j] < 0 else found


@compiled
def _kappa(kind, z, n, m, x):
    """kappa(z[:n, :m]) in place; x is room."""
    if kind == RELU:
        for i in range(n):
            for j in range(m):
                z[i, j] = min(max(z[i, j], -1.0), 1.0)  # rounding can lead past the ends
                x[i, j] = z[i, j]
    _arcsin(z, n, m)
    if kind == RELU:
        for i in range(n):
            for j in range(m):
                z[i, j] = (np.sqrt(1 - x[i, j] * x[i, j]) + (np.pi / 2 + z[i, j]) * x[i, j]) / (2 * np.pi)


@compiled
def _derivative(kind, z, n, m):
    """kappa'(z[:n, :m]) in place."""
    if kind == ERF:
        for i in range(n):
            for j in range(m):
                z[i, j] = 1 / np.sqrt(1 - z[i, j] * z[i, j])
        return
    for i in range(n):
        for j in range(m):
            z[i, j] = min(max(z[i, j], -1.0), 1.0)
    _arcsin(z, n, m)
    for i in range(n):
        for j in range(m):
            z[i, j] = 0.25 + z[i, j] / (2 * np.pi)


@compiled
def _up(n):
    return (n + PAD - 1) // PAD * PAD


@compiled
def _turned(a, out):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j, i] = a[i, j]


@compiled
def products(kind, w, v, right, same):
    """sum_j K(w_i, v_j) R_j of each member, (E, N, k)."""
    (e_all, n, d), m, k = w.shape, v.shape[1], right.shape[2]
    found = np.empty((e_all, n, k))
    phi, psi, psi_t = np.zeros((n, d)), np.zeros((m, d)), np.zeros((d, _up(m)))
    scale, scale_v, weighted, out = np.empty(n), np.empty(m), np.zeros((m, _up(k))), np.empty((n, _up(k)))
    z, room = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    for e in range(e_all):
        _embed(kind, w[e], phi, scale)
        _embed(kind, v[e], psi, scale_v)
        _turned(psi, psi_t)
        for j in range(m):
            alpha = _alpha(kind, scale_v[j])
            for c in range(k):
                weighted[j, c] = right[e, j, c] * alpha
        out[:] = 0
        for i in range(0, n, BLOCK):
            below = min(i + BLOCK, n)
            for j in range(i if same else 0, m, BLOCK):
                beyond = min(j + BLOCK, m)
                wide = _up(beyond - j)
                own = z[: below - i, : beyond - j]
                z[:] = 0
                times(phi[i:below], psi_t[:, j : j + wide], z)
                _kappa(kind, z, below - i, wide, room)
                times(own, weighted[j:beyond], out[i:below])
                if same and j > i:  # the block below the diagonal is the transpose of this one
                    times(own.T, weighted[i:below], out[j:beyond])
        for i in range(n):
            alpha = _alpha(kind, scale[i])
            for c in range(k):
                found[e, i, c] = out[i, c] * alpha
    return found


@compiled
def gradient(kind, w, v, left, right, same):
    """sum_j C_ij grad_{w_i} K(w_i, v_j) with C = L R^T, of each member, (E, N, d); v is held fixed even where it is w."""
    (e_all, n, d), m, k = w.shape, v.shape[1], right.shape[2]
    found = np.empty((e_all, n, d))
    phi, psi, psi_t = np.zeros((n, _up(d))), np.zeros((m, _up(d))), np.zeros((d, _up(m)))
    scale, scale_v, out = np.empty(n), np.empty(m), np.empty((n, _up(d)))
    weighted, weighted_t, left_t = np.empty((m, k)), np.zeros((k, _up(m))), np.zeros((k, _up(n)))
    z, c = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    for e in range(e_all):
        _embed(kind, w[e], phi[:, :d], scale)
        _embed(kind, v[e], psi[:, :d], scale_v)
        for j in range(m):
            alpha = _alpha(kind, scale_v[j])
            for x in range(k):
                weighted[j, x] = right[e, j, x] * alpha
        _turned(psi[:, :d], psi_t)
        _turned(weighted, weighted_t)
        _turned(left[e], left_t)
        out[:] = 0
        for i in range(0, n, BLOCK):
            below = min(i + BLOCK, n)
            for j in range(i if same else 0, m, BLOCK):
                beyond = min(j + BLOCK, m)
                wide = _up(beyond - j)
                own = c[: below - i, : beyond - j]
                z[:] = 0
                c[:] = 0
                times(phi[i:below, :d], psi_t[:, j : j + wide], z)
                times(left[e, i:below], weighted_t[:, j : j + wide], c)
                _derivative(kind, z, below - i, wide)
                c *= z
                times(own, psi[j:beyond], out[i:below])
                if same and j > i:
                    c[:] = 0
                    times(weighted[i:below], left_t[:, j : j + wide], c)
                    c *= z
                    times(own.T, phi[i:below], out[j:beyond])
        for i in range(n):
            inner = 0.0
            for x in range(d):
                inner += phi[i, x] * out[i, x]
            factor = scale[i] * _alpha(kind, scale[i])
            for x in range(d):
                found[e, i, x] = factor * (out[i, x] - phi[i, x] * inner)
    if kind == RELU:  # alpha is |w|: its gradient is phi
        sums = products(kind, w, v, right, same)
        for e in range(e_all):
            _embed(kind, w[e], phi[:, :d], scale)
            for i in range(n):
                inner = 0.0
                for x in range(k):
                    inner += left[e, i, x] * sums[e, i, x]
                for x in range(d):
                    found[e, i, x] += inner * scale[i] * phi[i, x]
    return found


@compiled
def _embed_moving(w, dw, phi, scale, d_phi, d_scale):
    """``_embed`` of erf, and how phi and its scale move with w."""
    _embed(ERF, w, phi, scale)
    for i in range(len(w)):
        inner = 0.0
        for x in range(w.shape[1]):
            inner += phi[i, x] * dw[i, x]
        d_scale[i] = -scale[i] * scale[i] * inner
        for x in range(w.shape[1]):
            d_phi[i, x] = scale[i] * (dw[i, x] - phi[i, x] * inner)


@compiled
def d_products(w, v, right, d_w, d_v, d_right):
    """How ``products`` of erf moves when w, v and right move by d_w, d_v and d_right."""
    (e_all, n, d), m, k = w.shape, v.shape[1], right.shape[2]
    found = np.empty((e_all, n, k))
    phi, d_phi, scale, d_scale = np.empty((n, d)), np.empty((n, d)), np.empty(n), np.empty(n)
    psi, d_psi, scale_v, d_scale_v = np.empty((m, d)), np.empty((m, d)), np.empty(m), np.empty(m)
    psi_t, d_psi_t = np.zeros((d, _up(m))), np.zeros((d, _up(m)))
    r, d_r, out = np.zeros((m, _up(k))), np.zeros((m, _up(k))), np.empty((n, _up(k)))
    z, dz = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    for e in range(e_all):
        _embed_moving(w[e], d_w[e], phi, scale, d_phi, d_scale)
        _embed_moving(v[e], d_v[e], psi, scale_v, d_psi, d_scale_v)
        _turned(psi, psi_t)
        _turned(d_psi, d_psi_t)
        r[:, :k], d_r[:, :k] = right[e], d_right[e]
        out[:] = 0
        for i in range(0, n, BLOCK):
            below = min(i + BLOCK, n)
            for j in range(0, m, BLOCK):
                beyond = min(j + BLOCK, m)
                wide = _up(beyond - j)
                z[:] = 0
                dz[:] = 0
                times(phi[i:below], psi_t[:, j : j + wide], z)
                times(phi[i:below], d_psi_t[:, j : j + wide], dz)
                times(d_phi[i:below], psi_t[:, j : j + wide], dz)
                for a in range(below - i):
                    for b in range(wide):
                        dz[a, b] /= np.sqrt(1 - z[a, b] * z[a, b])
                _arcsin(z, below - i, wide)
                times(z[: below - i, : beyond - j], d_r[j:beyond], out[i:below])
                times(dz[: below - i, : beyond - j], r[j:beyond], out[i:below])
        for i in range(n):
            for x in range(k):
                found[e, i, x] = out[i, x] * (2 / np.pi)
    return found


@compiled
def d_gradient(w, v, left, right, d_w, d_v, d_left, d_right):
    """How ``gradient`` of erf moves when w, v, left and right do."""
    (e_all, n, d), m, k = w.shape, v.shape[1], right.shape[2]
    found = np.empty((e_all, n, d))
    phi, d_phi, scale, d_scale = np.empty((n, d)), np.empty((n, d)), np.empty(n), np.empty(n)
    psi, d_psi, scale_v, d_scale_v = np.zeros((m, _up(d))), np.zeros((m, _up(d))), np.empty(m), np.empty(m)
    psi_t, d_psi_t = np.zeros((d, _up(m))), np.zeros((d, _up(m)))
    r_t, d_r_t = np.zeros((k, _up(m))), np.zeros((k, _up(m)))
    g, d_g = np.empty((n, _up(d))), np.empty((n, _up(d)))
    z, dz = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    c, dc = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    for e in range(e_all):
        _embed_moving(w[e], d_w[e], phi, scale, d_phi, d_scale)
        _embed_moving(v[e], d_v[e], psi[:, :d], scale_v, d_psi[:, :d], d_scale_v)
        _turned(psi[:, :d], psi_t)
        _turned(d_psi[:, :d], d_psi_t)
        _turned(right[e], r_t)
        _turned(d_right[e], d_r_t)
        g[:] = 0
        d_g[:] = 0
        for i in range(0, n, BLOCK):
            below = min(i + BLOCK, n)
            for j in range(0, m, BLOCK):
                beyond = min(j + BLOCK, m)
                wide = _up(beyond - j)
                z[:] = 0
                dz[:] = 0
                c[:] = 0
                dc[:] = 0
                times(phi[i:below], psi_t[:, j : j + wide], z)
                times(phi[i:below], d_psi_t[:, j : j + wide], dz)
                times(d_phi[i:below], psi_t[:, j : j + wide], dz)
                times(left[e, i:below], r_t[:, j : j + wide], c)
                times(left[e, i:below], d_r_t[:, j : j + wide], dc)
                times(d_left[e, i:below], r_t[:, j : j + wide], dc)
                for a in range(below - i):
                    for b in range(wide):
                        first = 1 / np.sqrt(1 - z[a, b] * z[a, b])  # kappa'; kappa'' is z kappa'^3
                        c[a, b] *= first
                        dc[a, b] = dc[a, b] * first + c[a, b] * z[a, b] * first * first * dz[a, b]
                times(c[: below - i, : beyond - j], psi[j:beyond], g[i:below])
                times(dc[: below - i, : beyond - j], psi[j:beyond], d_g[i:below])
                times(c[: below - i, : beyond - j], d_psi[j:beyond], d_g[i:below])
        for i in range(n):
            of_g, of_d_g, moving = 0.0, 0.0, 0.0
            for x in range(d):
                of_g += phi[i, x] * g[i, x]
                of_d_g += phi[i, x] * d_g[i, x]
                moving += d_phi[i, x] * g[i, x]
            for x in range(d):
                here = g[i, x] - phi[i, x] * of_g
                turned = d_g[i, x] - phi[i, x] * (of_d_g + moving) - d_phi[i, x] * of_g
                found[e, i, x] = (d_scale[i] * here + scale[i] * turned) * (2 / np.pi)
    return found


@compiled
def velocity(kind, a, w, p, a_0, w_0, p_0, c):
    """Velocities in a and w, A, B, C, the loss, and whether all is well; see ``landscape.velocity``.

    (a, w, p) is mu and (a_0, w_0, p_0) the teacher; C is computed where none is given, an empty c. All is not well where B
    is singular or a result is not finite.
    """
    (members, n, k), k_0 = a.shape, a_0.shape[2]
    u, known = a * p.reshape(members, n, 1), a_0 * p_0.reshape(members, -1, 1)
    f, q = products(kind, w, w_0, known, False), products(kind, w, w, u, True)
    left, right = np.empty((members, n, k_0)), np.empty((members, n, k_0))
    v_a, of_a = np.empty((members, n, k)), np.empty((members, k_0, k))
    of_b, loss = np.empty((members, k, k)), np.zeros(members)
    if len(c) == 0:
        own, c = products(kind, w_0, w_0, known, True), np.empty((members, k_0, k_0))
        for e in range(members):
            c[e] = known[e].T @ own[e]
    for e in range(members):
        of_a[e] = f[e].T @ u[e]
        b = q[e].T @ u[e]
        of_b[e] = (b + b.T) / 2
        if not (np.isfinite(of_b[e]).all() and np.isfinite(of_a[e]).all()):
            return v_a, w, of_a, of_b, c, loss, False
        values, vectors = np.linalg.eigh(of_b[e])
        if values[0] <= k * 2.220446049250313e-16 * abs(values[-1]):
            return v_a, w, of_a, of_b, c, loss, False
        m = of_a[e] @ ((vectors / values) @ vectors.T)
        left[e], right[e] = a[e] @ m.T, u[e] @ m.T
        v_a[e] = (f[e] - q[e] @ m.T) @ m
        loss[e] = np.trace(c[e] - m @ of_a[e].T) / 2
    v_w = gradient(kind, w, w_0, left, known, False) - gradient(kind, w, w, left, right, True)
    well = np.isfinite(v_a).all() and np.isfinite(v_w).all() and np.isfinite(loss).all()
    return v_a, v_w, of_a, of_b, c, loss, well
