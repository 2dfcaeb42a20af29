"""The loop of flows: what it records and when; the Runge-Kutta step: its order, and each member's length."""

from itertools import repeat

import numpy as np
import pytest
import torch

from icl_lib.mean_field.integrate import Parts, integrate, runge_kutta


def rotation(y: Parts) -> Parts:
    """x' = v, v' = -x: its exact flow is a rotation."""
    return y[1], -y[0]


def distance_after_one(n_steps: int) -> float:
    y = (torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    for _ in range(n_steps):
        y = runge_kutta(rotation, y, 1 / n_steps)
    return float((y[0] - np.cos(1)).abs().max() + (y[1] + np.sin(1)).abs().max())


def test_order_four() -> None:
    coarse, fine = distance_after_one(8), distance_after_one(16)
    assert 14 < coarse / fine < 18


def test_exact_for_cubic_polynomials_in_time() -> None:
    y = (torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    after = runge_kutta(lambda y: (torch.ones(1, dtype=torch.float64), 4 * y[0] ** 3), y, 2.0)
    assert after[0] == 2 and torch.allclose(after[1], torch.tensor([16.0], dtype=torch.float64), rtol=1e-12)


def test_each_member_has_its_step() -> None:
    start = torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    together = runge_kutta(lambda y: (-y[0],), (start,), torch.tensor([0.1, 0.3]))[0]
    for e, dt in enumerate((0.1, 0.3)):
        alone = runge_kutta(lambda y: (-y[0],), (start[e : e + 1],), dt)[0]
        assert torch.allclose(together[e], alone[0], rtol=1e-6)


def test_a_plan_is_never_held_as_a_whole() -> None:
    """Ten to the ninth steps cost nothing before they are taken."""
    seen = []
    end = integrate(0, lambda n, h: n + h, repeat(1, 10**9), lambda n: seen.append(n) or n >= 4, 2, str)
    assert end == 4 and seen == [0, 2, 4]


@pytest.mark.parametrize(("n", "seen"), [(0, [0]), (3, [0, 2, 3]), (4, [0, 2, 4])])
def test_the_first_state_and_the_last_are_recorded_once(n: int, seen: list[int]) -> None:
    found: list[int] = []
    integrate(0, lambda y, h: y + h, [1] * n, found.append, 2, str)
    assert found == seen
