"""Softmax and its gradient against torch's, in rows on both sides of the length at which the code changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lib.softmax.network import SHORT, softmax, softmax_gradient

LENGTHS = [1, 2, 7, SHORT - 1, SHORT, SHORT + 4]
EPS = torch.finfo(torch.float32).eps


def scores(l: int, seed: int, size: float = 3.0) -> torch.Tensor:
    return size * torch.randn(3, 50, l, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(l=st.sampled_from(LENGTHS), seed=st.integers(0, 1000), size=st.sampled_from([0.0, 1.0, 30.0, 1000.0]))
def test_softmax_is_that_of_torch_in_double_precision(l: int, seed: int, size: float) -> None:
    s = scores(l, seed, size)
    torch.testing.assert_close(softmax(s), s.double().softmax(-1).float(), rtol=64 * EPS, atol=1e-37)


@settings(deadline=None, max_examples=30)
@given(l=st.sampled_from(LENGTHS), seed=st.integers(0, 1000))
def test_slope_is_that_of_autograd(l: int, seed: int) -> None:
    s, d = scores(l, seed).double().requires_grad_(), scores(l, seed + 1).double()
    (slope,) = torch.autograd.grad((s.softmax(-1) * d).sum(), s)
    torch.testing.assert_close(softmax_gradient(d, s.detach().softmax(-1)), slope, rtol=1e-12, atol=1e-14)
    (through,) = torch.autograd.grad((softmax(s) * d).sum(), s)
    torch.testing.assert_close(through, slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("l", LENGTHS)
def test_a_row_does_not_depend_on_the_others(l: int) -> None:
    s, d = scores(l, 0), scores(l, 1)
    p = softmax(s)
    assert torch.equal(softmax(s[1:2, :7]), p[1:2, :7])
    assert torch.equal(softmax_gradient(d[1:2, :7], p[1:2, :7]), softmax_gradient(d, p)[1:2, :7])


@pytest.mark.parametrize("l", LENGTHS[1:])
def test_a_masked_token_has_no_weight(l: int) -> None:
    s = scores(l, 0)
    s[..., -1] = -torch.inf
    assert torch.equal(softmax(s)[..., -1], torch.zeros(3, 50))
    torch.testing.assert_close(softmax(s)[..., :-1], s[..., :-1].softmax(-1), rtol=64 * EPS, atol=1e-37)


@pytest.mark.parametrize("l", LENGTHS)
def test_what_is_not_a_number_stays_so(l: int) -> None:
    s = scores(l, 0)
    s[0, 0, 0] = torch.nan
    assert softmax(s)[0, 0].isnan().all()
    assert softmax(s)[1:].isfinite().all()
