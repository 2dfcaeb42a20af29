"""Softmax attention: closed forms, velocities against finite differences, its relation to linear attention."""

import torch

from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.prompts import PromptConfig, Source
from icl_lib.mean_field.transformer import Transformer, predictions, step
from icl_lib.rng import generator

D, K, N, SEED = 3, 2, 5, 1000
TEACHER = teachers([TeacherConfig("random", 4, D, K, 2.0, None, SEED)], activation("sigmoid").kernel())
SOURCE = Source(PromptConfig(n_context=7, n_query=2), TEACHER, "sigmoid", SEED, torch.float64)
BATCH = SOURCE.draw(5, "prompts")
MU = initial_particles([InitConfig("aligned", N, D, K, 2.0, SEED)])
MU = MU._replace(p=torch.tensor([[0.1, 0.3, 0.2, 0.25, 0.15]], dtype=torch.float64))
W = torch.randn(1, K + 1, K + 1, generator=generator(1, "noise"), dtype=torch.float64)


def mean_loss(a: torch.Tensor, w: torch.Tensor, attention: torch.Tensor) -> float:
    return float(step("sigmoid", Transformer(MU._replace(a=a, w=w), attention), [BATCH], softmax=True).losses.mean())


def test_limits() -> None:
    """W = 0 averages the labels; a small W adds linear attention on labels less their mean; large scores copy one label."""
    zero = predictions("sigmoid", Transformer(MU, 0 * W), [BATCH], softmax=True)[0]
    torch.testing.assert_close(zero, BATCH.y.mean(1, keepdim=True).expand(-1, 2))
    centred = BATCH._replace(y=BATCH.y - BATCH.y.mean(1, keepdim=True))
    small = Transformer(MU, 1e-5 * W)
    linear = predictions("sigmoid", small, [centred])[0]
    gap = predictions("sigmoid", small, [BATCH], softmax=True)[0] - zero - linear
    assert gap.abs().max() < 1e-4 * linear.abs().max()
    sharp = predictions("sigmoid", Transformer(MU, 1e9 * W), [BATCH], softmax=True)[0]
    assert ((sharp[:, :, None] - BATCH.y[:, None]).abs().min(-1).values < 1e-9).all()


def test_velocities() -> None:
    found = step("sigmoid", Transformer(MU, W), [BATCH], softmax=True)
    h = 1e-6
    for i, j in ((0, 1), (3, 0)):
        for name, velocity, mass in (
            ("a", found.a, MU.p[0, i]),
            ("w", found.w, MU.p[0, i]),
            ("attention", found.attention, 1),
        ):
            values = []
            for sign in (1, -1):
                parts = {"a": MU.a.clone(), "w": MU.w.clone(), "attention": W.clone()}
                parts[name][0, min(i, parts[name].shape[1] - 1), j] += sign * h
                values.append(mean_loss(**parts))
            slope = (values[0] - values[1]) / (2 * h)
            row = min(i, velocity.shape[1] - 1)
            torch.testing.assert_close(float(-velocity[0, row, j] * mass), slope, rtol=1e-5, atol=1e-8)
    errors = predictions("sigmoid", Transformer(MU, W), [BATCH], softmax=True)[0] - BATCH.y_query
    torch.testing.assert_close(found.losses[0], errors.square().mean(1) / 2)
