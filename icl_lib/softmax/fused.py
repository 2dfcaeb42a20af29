"""The one-layer learner compiled: what ``model.py`` and plain SGD do, several steps in one call.

Per member, with C the matrix of patterns and the tables Q = W_Q C^T, K = W_K C^T and V = W_V C^T, a step is

    G = Q^T K,  H = V^T W_O^T                      scores between patterns; what each pattern sends to each neuron
    attention, pooled token, neurons, output       of each prompt
    dG, dH                                         from the prompts whose hinge loss is positive; no other has a gradient
    X_Q = -eta K dG^T,  X_K = -eta Q dG,  X_V = -eta W_O^T dH^T,  W_O^T moves by -eta V dH
    Q, K and V move by X C C^T,  and the weights by X C

so that C is not multiplied by: the X are added up, and weights and tables are made anew at every multiple of ``CHUNK`` steps.
A run that is resumed there ends where an uninterrupted one does, to the bit. Arrays are padded with zeros to multiples of 16
numbers. Sums have another order than in ``model.py``; tests compare both with float64.
"""

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from icl_lib.compiled import compiled, times
from icl_lib.softmax import model
from icl_lib.softmax.model import Activations, Params
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import CHUNK, Prompts
from icl_lib.validate import require

F = np.float32
PAD = 16  # numbers

# Of one member or all: tables with ``last``, the column of the label, and neurons; what moves them; what prompts are coded by.
Weights = namedtuple("Weights", "q k v w_o a last")
Course = namedtuple("Course", "moves gram orthogonal rate frozen")
Codes = namedtuple("Codes", "rel irr kappa label query query_kappa target")
# Memory of a pass: P' = P + 1 and m, padded; ``active`` are the numbers of the prompts that have a gradient.
Room = namedtuple("Room", "g h attention pooled hidden row power")
Back = namedtuple("Back", "h_t fires active d_g d_g_t d_h d_h_t d_pooled of_token x y")


@compiled
def _exp(x, power):
    """x = exp(x) for numbers <= 0, by rows: 2^k times a polynomial of 2^r, |r| <= 1/2 (the coefficients of Cephes)."""
    scale = power.view(np.float32)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            y = F(-87) if x[b, t] < F(-87) else x[b, t]  # not a number stays what it is
            y *= F(1.44269504)
            k = np.floor(y + F(0.5))
            r = y - k
            p = F(1.535336188319500e-4)
            p = p * r + F(1.339887440266574e-3)
            p = p * r + F(9.618437357674640e-3)
            p = p * r + F(5.550332471162809e-2)
            p = p * r + F(2.402264791363012e-1)
            p = p * r + F(6.931472028550421e-1)
            x[b, t] = p * r + F(1)
            power[t] = (np.int32(k) + np.int32(127)) << np.int32(23)
        for t in range(x.shape[1]):
            x[b, t] *= scale[t]


@compiled
def _room(n, l, p, m):
    f = np.float32
    g, h, row = np.empty((p, p), f), np.empty((p, m), f), np.empty(p, f)
    return Room(g, h, np.empty((n, l), f), np.empty((n, p), f), np.empty((n, m), f), row, np.empty(l, np.int32))


@compiled
def _forward(weights, codes, room):
    """Attention, pooled tokens and neurons before the ReLU, of all prompts of a member."""
    q, k, v, w_o, _, last = weights
    rel, irr, kappa, label, query, query_kappa, _ = codes
    g, s, pooled, row, l = room.g, room.attention, room.pooled, room.row, label.shape[1]
    g[:] = 0
    room.h[:] = 0
    room.hidden[:] = 0
    pooled[:] = 0
    times(q.T, k, g)
    times(v.T, w_o, room.h)
    for b in range(len(query)):
        of_first, of_second, size = query[b, 0], query[b, 1], query_kappa[b]
        for j in range(len(row)):
            row[j] = g[of_first, j] + size * g[of_second, j]
        of_label, top = row[last], F(-np.inf)
        for t in range(l):
            x = row[rel[b, t]] + kappa[b, t] * row[irr[b, t]] + label[b, t] * of_label
            s[b, t] = x
            top = top if x < top else x
        for t in range(l):
            s[b, t] -= top
    _exp(s, room.power)
    for b in range(len(query)):
        total = F(0)
        for t in range(l):
            total += s[b, t]
        total, of_label = F(1) / total, F(0)
        for t in range(l):
            x = s[b, t] * total
            s[b, t] = x
            pooled[b, rel[b, t]] += x
            pooled[b, irr[b, t]] += x * kappa[b, t]
            of_label += x * label[b, t]
        pooled[b, last] = of_label
    times(pooled, room.h, room.hidden)


@compiled
def _output(a, hidden, b, lanes):
    """a^T ReLU(hidden[b]), 16 sums at a time."""
    lanes[:] = 0
    for i in range(0, len(a), PAD):
        for c in range(PAD):
            lanes[c] += a[i + c] * (F(0) if hidden[b, i + c] < 0 else hidden[b, i + c])
    out = F(0)
    for c in range(PAD):
        out += lanes[c]
    return out


@compiled
def _loss(a, target, room, back):
    """Mean hinge loss and number n of prompts with a gradient.

    Of these, ``back`` then holds the numbers and a_i where neuron i fires, and the first n rows of ``room.pooled`` are the pooled
    token times dloss/doutput.
    """
    hidden, pooled, lanes = room.hidden, room.pooled, np.empty(PAD, np.float32)
    loss, n, size = 0.0, 0, F(1 / len(target))
    for b in range(len(target)):
        margin = target[b] * _output(a, hidden, b, lanes)
        if not margin >= 1:  # not a number counts too
            loss += 1 - margin
            d_out = -target[b] * size
            for i in range(len(a)):
                back.fires[n, i] = a[i] if hidden[b, i] > 0 else F(0)
            for j in range(pooled.shape[1]):
                pooled[n, j] = pooled[b, j] * d_out
            back.active[n] = b
            n += 1
    return loss / len(target), n


@compiled
def _attention_gradient(n, last, codes, room, back):
    """dG from the n active prompts."""
    rel, irr, kappa, label, query, query_kappa, target = codes
    s, d_pooled, d_g, d, row, l = room.attention, back.d_pooled, back.d_g, back.of_token, room.row, label.shape[1]
    size = F(1 / len(target))
    d_pooled[:n] = 0
    d_g[:] = 0
    times(back.fires[:n], back.h_t, d_pooled)
    for c in range(n):
        b = back.active[c]
        d_out, of_label, mean = -target[b] * size, d_pooled[c, last], F(0)
        for t in range(l):
            x = d_pooled[c, rel[b, t]] + kappa[b, t] * d_pooled[c, irr[b, t]] + label[b, t] * of_label
            d[t] = x
            mean += x * s[b, t]
        row[:] = 0
        of_label = F(0)
        for t in range(l):
            x = (d[t] - mean) * s[b, t] * d_out
            row[rel[b, t]] += x
            row[irr[b, t]] += x * kappa[b, t]
            of_label += x * label[b, t]
        row[last] = of_label
        of_first, of_second, of_query = query[b, 0], query[b, 1], query_kappa[b]
        for j in range(len(row)):
            d_g[of_first, j] += row[j]
            d_g[of_second, j] += of_query * row[j]


@compiled
def _turn(a, factor, out):
    """a *= factor, and out is its transpose."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[i, j] *= factor
            out[j, i] = a[i, j]


@compiled
def _move(x, total, table, gram, orthogonal):
    """The sum of the X, and the table of the weights that move by X C."""
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            total[r, j] += x[r, j]
    if not orthogonal:
        times(x, gram, table)
        return
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            table[r, j] += x[r, j] * gram[j, j]


@compiled
def _step(weights, course, codes, room, back):
    """One step of one member; returns its loss."""
    q, k, v, w_o, a, last = weights
    moves, gram, orthogonal, rate, frozen = course
    _forward(weights, codes, room)
    loss, n = _loss(a, codes.target, room, back)
    if not frozen:
        _turn(room.h, F(1), back.h_t)
        _attention_gradient(n, last, codes, room, back)
        _turn(back.d_g, -rate, back.d_g_t)
        back.x[:] = 0
        back.y[:] = 0
        times(k, back.d_g_t, back.x)
        times(q, back.d_g, back.y)
        _move(back.x, moves[0], q, gram, orthogonal)
        _move(back.y, moves[1], k, gram, orthogonal)
    back.d_h[:] = 0
    times(room.pooled[:n].T, back.fires, back.d_h)
    _turn(back.d_h, -rate, back.d_h_t)
    back.x[:] = 0
    times(w_o, back.d_h_t, back.x)
    times(v, back.d_h, w_o)
    _move(back.x, moves[2], v, gram, orthogonal)
    return loss


@compiled
def _weights(e, tables, w_o, a, last):
    return Weights(tables[e, 0], tables[e, 1], tables[e, 2], w_o[e], a[e], last)


@compiled
def _batch(e, at, codes):
    """Some prompts of a member."""
    rel, irr, kappa, label, query, query_kappa, target = codes
    return Codes(rel[e, at], irr[e, at], kappa[e, at], label[e, at], query[e, at], query_kappa[e, at], target[e, at])


@compiled
def _steps(tables, w_o, a, last, course, codes, losses):
    """losses.shape[1] steps of every member, each on the next prompts."""
    size, l = codes.target.shape[1] // losses.shape[1], codes.label.shape[2]
    d, p, m, f = tables.shape[2], tables.shape[3], a.shape[1], np.float32
    room = _room(size, l, p, m)
    back = Back(
        np.empty((m, p), f), np.empty((size, m), f), np.empty(size, np.uint64), np.empty((p, p), f), np.empty((p, p), f),
        np.empty((p, m), f), np.empty((m, p), f), np.empty((size, p), f), np.empty(l, f), np.empty((d, p), f), np.empty((d, p), f),
    )  # fmt: skip
    moves, gram, orthogonal, rate, frozen = course
    for e in range(len(losses)):
        weights, own = _weights(e, tables, w_o, a, last), Course(moves[e], gram[e], orthogonal[e], rate[e], frozen[e])
        for i in range(losses.shape[1]):
            losses[e, i] = _step(weights, own, _batch(e, slice(i * size, (i + 1) * size), codes), room, back)


@compiled
def _forwards(tables, w_o, a, last, codes, attention, pooled, hidden, output):
    (n, l), (p, m) = codes.label.shape[1:], (tables.shape[3], a.shape[1])
    room, lanes = _room(n, l, p, m), np.empty(PAD, np.float32)
    for e in range(len(output)):
        _forward(_weights(e, tables, w_o, a, last), _batch(e, slice(0, n), codes), room)
        for b in range(n):
            output[e, b] = _output(a[e], room.hidden, b, lanes)
            for t in range(l):
                attention[e, b, t] = room.attention[b, t]
            for j in range(pooled.shape[2]):
                pooled[e, b, j] = room.pooled[b, j]
            for i in range(hidden.shape[2]):
                hidden[e, b, i] = F(0) if room.hidden[b, i] < 0 else room.hidden[b, i]


def _padded(x: Tensor) -> ndarray:
    out = np.zeros((*x.shape[:-1], -(-x.shape[-1] // PAD) * PAD), dtype=np.float32)
    out[..., : x.shape[-1]] = x.numpy()
    return out


@compiled
def _times_each(a, b, out):
    """out += a @ b for each member, which then does not depend on the others."""
    for e in range(len(out)):
        times(a[e], b[e], out[e])


def _product(a: Tensor, b: Tensor) -> ndarray:
    out = np.zeros((*a.shape[:2], -(-b.shape[2] // PAD) * PAD), dtype=np.float32)
    _times_each(a.contiguous().numpy(), _padded(b), out)
    return out


def _tables(params: Params, patterns: Patterns) -> ndarray:
    """Q, K and V, (E, 3, d, P')."""
    found = _product(params.w_qkv, patterns.basis.mT)
    return found.reshape(len(found), 3, -1, found.shape[2])


def _codes(prompts: Prompts) -> Codes:
    """Numbers of patterns without a sign."""
    parts = *prompts.parts.unbind(2), *prompts[1:]
    arrays = [part.contiguous().numpy() for part in parts]
    return Codes(*(x.view(np.uint64) if x.dtype == np.int64 else x for x in arrays))


def _fit(params: Params, patterns: Patterns, prompts: Prompts) -> bool:
    """Whether all is of one ensemble, float32 on the CPU, and every pattern that a prompt names is there: addresses are not checked."""
    (members, rows, d), (n, l), m = patterns.basis.shape, prompts.label.shape[1:], params.a.shape[1]
    sizes = (3 * d, d), (m, d), (m,), (rows, d), (n, 2, l), (n, l), (n, l), (n, 2), (n,), (n,)
    for part, size in zip((*params, patterns.basis, *prompts), sizes, strict=True):
        if tuple(part.shape) != (members, *size) or part.device.type != "cpu":
            return False
    numbers = prompts.parts, prompts.query_parts
    floats = *params, patterns.basis, prompts.kappa, prompts.label, prompts.query_kappa, prompts.target
    kinds = all(x.dtype == torch.int64 for x in numbers) and all(x.dtype == torch.float32 for x in floats)
    return kinds and all(x.numel() == 0 or (int(x.min()) >= 0 and int(x.max()) < rows) for x in numbers)


def forward(params: Params, patterns: Patterns, prompts: Prompts) -> Activations:
    """``model.forward``, compiled for an ensemble in float32 on the CPU; all else goes there."""
    if not _fit(params, patterns, prompts):
        return model.forward(params, patterns, prompts)
    (members, n, l), p, m = prompts.label.shape, patterns.basis.shape[1], params.a.shape[1]
    found = Activations(*(torch.empty(members, n, *rest) for rest in ((l,), (p,), (m,), ())))
    given = _tables(params, patterns), _padded(params.w_o.mT), _padded(params.a), p - 1
    _forwards(*given, _codes(prompts), *(part.numpy() for part in found))
    return found


class Learner:
    """One-layer learners in training by plain SGD, for ``descend``: each with its step size, frozen attention with none."""

    at_once = CHUNK

    def __init__(self, configs: Sequence[Any], params: Params, patterns: Patterns) -> None:
        members = len(configs), len(params.a), len(patterns.basis)
        require(len(set(members)) == 1, "configs, params, patterns", members, "alike in number")
        d = patterns.basis.shape[2]
        require(
            params.w_qkv.shape[1:] == (3 * d, d), "params.w_qkv", tuple(params.w_qkv.shape), f"of tokens of {d} numbers"
        )
        self.patterns, self.last = patterns, patterns.basis.shape[1] - 1
        found = _product(patterns.basis, patterns.basis.mT)
        root = np.sqrt(found.diagonal(0, 1, 2))
        beyond = found[..., : self.last + 1] / (root[:, :, None] * root[:, None]) - np.eye(self.last + 1)
        orthogonal = np.abs(beyond).max((1, 2)) < 1e-5
        gram = np.zeros((len(found), *found.shape[2:] * 2), np.float32)
        gram[:, : self.last + 1] = found
        rate = np.array([c.step_size for c in configs], np.float32)
        self.fixed = gram, orthogonal, rate, np.array([not c.train_attention for c in configs])
        self._start(params)

    def _start(self, params: Params) -> None:
        self.params, self.tables = params, _tables(params, self.patterns)
        self.w_o, self.a, self.moves = _padded(params.w_o.mT), _padded(params.a), np.zeros_like(self.tables)

    def advance(self, prompts: Prompts, step: int, n_steps: int) -> Tensor:
        """Take steps from number ``step`` on; the prompts are those of all of them, one batch after the other. Losses (E, k)."""
        require(
            _fit(self.params, self.patterns, prompts),
            "prompts",
            tuple(prompts.parts.shape),
            "codes of the ensemble's patterns",
        )
        if step % CHUNK == 0 and self.moves.any():
            self._start(self.weights())
        losses = np.empty((len(self.a), n_steps), dtype=np.float32)
        course = Course(self.moves, *self.fixed)
        _steps(self.tables, self.w_o, self.a, self.last, course, _codes(prompts), losses)
        return torch.from_numpy(losses)

    def weights(self) -> Params:
        """As they are now."""
        moved = torch.from_numpy(
            _product(torch.from_numpy(self.moves)[..., : self.last + 1].flatten(1, 2), self.patterns.basis)
        )
        moved = moved[..., : self.params.w_qkv.shape[2]]
        w_o = torch.from_numpy(self.w_o)[..., : self.params.a.shape[1]].mT.contiguous()
        return Params(self.params.w_qkv + moved, w_o, self.params.a.clone())
