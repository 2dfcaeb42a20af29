"""What one training step costs at the least: arithmetic, bytes and random numbers; ``machine`` times the rates."""

from icl_lib.softmax.training import TrainConfig


def products(config: TrainConfig) -> list[tuple[int, int, int]]:
    """The matrix products of one model's training step, as (rows, inner, columns); see ``model.backward``."""
    b, m = config.batch_size, config.model.m
    d, r = config.patterns.d_x + config.patterns.d_y, config.patterns.n_idr + config.patterns.n_idi + 1
    forward = [(3 * d, d, r), (m, d, r), (r, d, r), (b, r, r), (b, r, m), (1, m, b)]
    return [*forward, (m, b, r), (b, m, r), (r, b, r), (d, r, r), (d, r, r), (d, m, r), (3 * d, r, d), (m, r, d)]


def flops(config: TrainConfig) -> int:
    """Arithmetic of the matrix products of one model and step (all else is below 5 % of it)."""
    return sum(2 * i * j * k for i, j, k in products(config))


def evaluation_flops(config: TrainConfig) -> int:
    """Arithmetic of the matrix products of ``model.forward`` that grow with the number of prompts, per prompt."""
    m, r = config.model.m, config.patterns.n_idr + config.patterns.n_idi + 1
    return 2 * (r * r + r * m + m)


def traffic(config: TrainConfig) -> dict[str, int]:
    """Bytes that the operations of one model and step read and write, each operand counted once per operation.

    Floats have 4 bytes, pattern numbers 8. The bytes per element are added up over the operations
    in ``sample_prompts``, ``_gather`` and ``_scatter`` (twice each), ``_forward`` and ``backward``.
    """
    b, m, l = config.batch_size, config.model.m, config.prompts.n_context
    d, r = config.patterns.d_x + config.patterns.d_y, config.patterns.n_idr + config.patterns.n_idi + 1
    random, outcome, irrelevant = 2 * 28, 64 + 44, 60
    return {
        "sampling": b * l * (random + outcome + irrelevant),
        "gather": 2 * b * l * 60,
        "scatter": 2 * b * l * 68,
        "softmax": b * l * (8 + 28),
        "products": 4 * sum(i * j + j * k + i * k for i, j, k in products(config)),
        "other": b * r * 28 + b * m * 16 + m * r * 16 + 3 * d * r * 8,
        "update": (3 * d * d + m * d) * 12,
    }


def draws(config: TrainConfig) -> int:
    """64-bit random numbers of one model and step."""
    return config.batch_size * (2 * config.prompts.n_context + 3) // 2
