"""The baselines for the one-layer learner.

On prompts whose tokens are written out: layers of ``torch.nn``, trained one seed at a time by autograd; ``torch.func`` vmap, and JAX jit
+ vmap, all seeds at once. These two are written in the order of products that costs least: the query is mapped to key space, and tokens
are pooled before W_V, so that no context is projected. On the library's coded prompts: JAX, all steps in one ``lax.scan``.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns, draw_patterns
from icl_lib.softmax.prompts import Prompts, sample_prompts, task_table
from icl_lib.softmax.training import CHUNK, TrainConfig

Run = Callable[[], tuple[Tensor, Tensor]]  # losses (E, T), and how far W_Q, W_K, W_V moved (E, 3 d, d)


class Dense(NamedTuple):
    """Prompts with their tokens written out."""

    context: Tensor  # (B, l, d)
    query: Tensor  # (B, d)
    target: Tensor  # (B,)


class ModuleLearner(nn.Module):
    """Paper L's learner with the weights of one member, attending from the query only."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        m, d = params.w_o.shape[1:]
        self.attention = nn.MultiheadAttention(d, 1, bias=False, batch_first=True)
        self.neurons = nn.Linear(d, m, bias=False)
        self.output = nn.Linear(m, 1, bias=False).requires_grad_(False)
        self.attention.out_proj.requires_grad_(False)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(params.w_qkv[0])
            self.attention.out_proj.weight.copy_(torch.eye(d))
            self.neurons.weight.copy_(params.w_o[0])
            self.output.weight.copy_(params.a)

    def attend(self, prompts: Dense, need_weights: bool = True) -> tuple[Tensor, Tensor | None]:
        """Outputs (B,), and the attention weights (B, 1, l) if they are needed."""
        query = prompts.query[:, None] * prompts.query.shape[-1] ** 0.5  # the layer divides scores by sqrt(d)
        pooled, weights = self.attention(query, prompts.context, prompts.context, need_weights=need_weights)
        return self.output(self.neurons(pooled[:, 0]).relu())[:, 0], weights

    def forward(self, prompts: Dense) -> Tensor:
        return self.attend(prompts, False)[0]


def dense(codes: Prompts, patterns: Patterns) -> Dense:
    """Tokens of the prompts of one member, by looking up whole rows."""
    basis = patterns.basis
    relevant, irrelevant = codes.parts[0].unbind(1)
    context = basis.index_select(0, irrelevant.flatten()).mul_(codes.kappa[0].flatten()[:, None])
    context += basis.index_select(0, relevant.flatten())
    context[:, patterns.d_x :] = codes.label[0].flatten()[:, None] * patterns.label
    relevant, irrelevant = codes.query_parts[0].unbind(1)
    query = basis[relevant] + codes.query_kappa[0][:, None] * basis[irrelevant]
    return Dense(context.view(*codes.label.shape[1:], -1), query, codes.target[0])


def batches(config: TrainConfig) -> Iterator[Dense]:
    """The training batches of a config: the same prompts as the library's, drawn by the same fast sampler."""
    patterns, tasks, chunk = draw_patterns(config.patterns, config.seed), task_table([config.tasks]), 0
    n_prompts = CHUNK * config.batch_size
    while True:
        pool = sample_prompts([config.prompts], tasks, [config.seed], patterns.counts, n_prompts, "train", chunk)
        for i in range(CHUNK):
            rows = slice(i * config.batch_size, (i + 1) * config.batch_size)
            yield dense(Prompts(*(part[:, rows] for part in pool)), patterns)
        chunk += 1


def take_steps(
    learner: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Dense] | Sequence[Dense], n: int
) -> Tensor:
    """n steps on the hinge loss, one batch each, by autograd; returns the losses."""
    losses = []
    for prompts, _ in zip(batches, range(n), strict=False):
        loss = (1 - prompts.target * learner(prompts)).relu().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def train_module(
    learner: ModuleLearner, batches: Iterator[Dense] | Sequence[Dense], step_size: float, n: int
) -> Tensor:
    """n steps of SGD on the hinge loss; returns the losses."""
    optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=step_size)
    return take_steps(learner, optimizer, batches, n)


def stack(members: Sequence[Dense]) -> Dense:
    """Dense prompts of an ensemble."""
    return Dense(*(torch.stack(parts) for parts in zip(*members, strict=True)))


def hinge_loss(w_qkv: Tensor, w_o: Tensor, a: Tensor, prompts: Dense) -> Tensor:
    """Mean hinge loss of one member."""
    w_q, w_k, w_v = w_qkv.chunk(3)
    asked = prompts.query @ w_q.T @ w_k
    attention = (prompts.context @ asked[..., None])[..., 0].softmax(-1)
    pooled = (attention[:, None] @ prompts.context)[:, 0]
    output = (pooled @ w_v.T @ w_o.T).relu() @ a
    return (1 - prompts.target * output).relu().mean()


def vmap_run(params: Params, batches: Sequence[Dense], step_size: float) -> Run:
    """SGD on given prompts by ``torch.func``."""
    gradients = vmap(grad_and_value(hinge_loss, argnums=(0, 1)))

    def run() -> tuple[Tensor, Tensor]:
        w_qkv, w_o, losses = params.w_qkv.clone(), params.w_o.clone(), []
        for prompts in batches:
            (d_qkv, d_o), loss = gradients(w_qkv, w_o, params.a, prompts)
            w_qkv.add_(d_qkv, alpha=-step_size)
            w_o.add_(d_o, alpha=-step_size)
            losses.append(loss)
        return torch.stack(losses, 1), w_qkv - params.w_qkv

    return run


def jax_run(params: Params, batches: Sequence[Dense], step_size: float) -> Run:
    """The same as JAX compiles it, update included."""
    from benchmarks.jax_cpu import jax, jnp

    def loss(weights: tuple, a: jax.Array, context: jax.Array, query: jax.Array, target: jax.Array) -> jax.Array:
        (w_q, w_k, w_v), w_o = jnp.split(weights[0], 3), weights[1]
        scores = jnp.einsum("bld,bd->bl", context, query @ w_q.T @ w_k)
        pooled = jnp.einsum("bl,bld->bd", jax.nn.softmax(scores), context)
        output = jax.nn.relu(pooled @ w_v.T @ w_o.T) @ a
        return jax.nn.relu(1 - target * output).mean()

    def step(weights: tuple, *given: jax.Array) -> tuple:
        found, gradients = jax.value_and_grad(loss)(weights, *given)
        return tuple(w - step_size * g for w, g in zip(weights, gradients, strict=True)), found

    compiled = jax.jit(jax.vmap(step))
    start, a = tuple(jnp.asarray(w.numpy()) for w in params[:2]), jnp.asarray(params.a.numpy())
    given = [tuple(jnp.asarray(part.numpy()) for part in batch) for batch in batches]

    def run() -> tuple[Tensor, Tensor]:
        weights, losses = start, []
        for batch in given:
            weights, found = compiled(weights, a, *batch)
            losses.append(found)
        jax.block_until_ready(weights)
        return torch.tensor(np.array(jnp.stack(losses, 1))), torch.tensor(np.array(weights[0] - start[0]))

    return run


def scan_run(params: Params, patterns: Patterns, batches: Sequence[Prompts], step_size: float) -> Run:
    """JAX with our coding of prompts and our tables of pattern pairs: looked up, added up, and all steps in one compiled loop.

    Compiled at its first call, which is not timed.
    """
    from benchmarks.jax_cpu import jax, jnp

    def of_steps(part: Callable[[Prompts], Tensor]) -> jax.Array:
        return jnp.asarray(np.stack([part(batch).numpy() for batch in batches], 1))

    codes = (
        of_steps(lambda p: p.parts[:, :, 0].int()), of_steps(lambda p: p.parts[:, :, 1].int()), of_steps(lambda p: p.kappa),
        of_steps(lambda p: p.label), of_steps(lambda p: p.query_parts.int()), of_steps(lambda p: p.query_kappa),
        of_steps(lambda p: p.target),
    )  # fmt: skip

    def loss(weights: tuple, a: jax.Array, basis: jax.Array, given: tuple) -> jax.Array:
        relevant, irrelevant, kappa, label, query, query_kappa, target = given
        q, k, v = jnp.split(weights[0] @ basis.T, 3)
        scores = q.T @ k
        asked = scores[query[:, 0]] + query_kappa[:, None] * scores[query[:, 1]]
        look_up = partial(jnp.take_along_axis, asked, axis=1)
        attention = jax.nn.softmax(look_up(relevant) + kappa * look_up(irrelevant) + label * asked[:, -1:])
        row = jnp.arange(len(target))[:, None]
        pooled = jnp.zeros_like(asked).at[row, relevant].add(attention).at[row, irrelevant].add(attention * kappa)
        pooled = pooled.at[:, -1].add((attention * label).sum(1))
        output = jax.nn.relu(pooled @ (weights[1] @ v).T) @ a
        return jax.nn.relu(1 - target * output).mean()

    def run_one(weights: tuple, a: jax.Array, basis: jax.Array, given: tuple) -> tuple:
        def step(now: tuple, batch: tuple) -> tuple:
            found, gradients = jax.value_and_grad(loss)(now, a, basis, batch)
            return tuple(w - step_size * g for w, g in zip(now, gradients, strict=True)), found

        return jax.lax.scan(step, weights, given)

    compiled = jax.jit(jax.vmap(run_one))
    start, a, basis = (
        tuple(jnp.asarray(w.numpy()) for w in params[:2]),
        jnp.asarray(params.a.numpy()),
        jnp.asarray(patterns.basis.numpy()),
    )

    def run() -> tuple[Tensor, Tensor]:
        weights, losses = jax.block_until_ready(compiled(start, a, basis, codes))
        return torch.tensor(np.array(losses)), torch.tensor(np.array(weights[0] - start[0]))

    return run
