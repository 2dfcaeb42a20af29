"""Two more baselines for the one-layer learner, all seeds at once on dense tokens: ``torch.func`` vmap, and JAX jit + vmap.

Both are written in the order of products that costs least: the query is mapped to key space, and tokens are pooled before
W_V, so that no context is projected. The gradient is autograd's.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from benchmarks.module import Dense
from icl_lib.softmax.model import Params

Run = Callable[[], tuple[Tensor, Tensor]]  # losses (E, T), and how far W_Q, W_K, W_V moved (E, 3 d, d)


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
