"""Written-out derivatives against autograd through the loss; members pass in blocks."""

import pytest
import torch
from torch.func import grad, jacrev

from icl_lib.mean_field import hessian
from icl_lib.mean_field.critical_points import polish
from icl_lib.mean_field.hessian import exact_loss, extreme_eigenvalues, gradient_and_hessian
from icl_lib.mean_field.kernels import Erf, Kernel, sigmoid
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, member, stack, teachers


@pytest.mark.parametrize("kernel", [Erf(), sigmoid()])
@pytest.mark.parametrize(("k0", "k", "d", "n"), [(2, 2, 2, 5), (1, 2, 3, 4), (2, 1, 2, 1)])
def test_gradient_and_hessian_are_those_of_the_loss(kernel: Kernel, k0: int, k: int, d: int, n: int) -> None:
    """At points that are not critical, for unequal masses, more or fewer outputs than the teacher's, one neuron too."""
    teacher = stack([teachers([TeacherConfig("random", 3, d, k0, seed=s)], kernel) for s in range(3)])
    mu = initial_particles([InitConfig("independent", n, d, k, seed=s) for s in range(3)])
    masses = torch.linspace(1, 2, n, dtype=torch.float64)
    mu = mu._replace(p=(masses / masses.sum()).expand(3, n))

    def loss(theta: torch.Tensor, e: int) -> torch.Tensor:
        own = Particles(theta[None, :, :k], theta[None, :, k:], mu.p[e : e + 1])
        return exact_loss(kernel, member(teacher, e), own)[0]

    first, second = gradient_and_hessian(kernel, teacher, mu)
    for e, theta in enumerate(torch.cat([mu.a, mu.w], 2)):
        assert torch.allclose(first[e], grad(loss)(theta, e), rtol=1e-10, atol=1e-12)
        assert torch.allclose(second[e], jacrev(grad(loss))(theta, e), rtol=1e-10, atol=1e-12)


def test_members_in_blocks_are_members_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for the Hessians of two members, or of none, as with room for all, up to rounding."""
    kernel, n, k, d = Erf(), 4, 2, 3
    teacher = stack([teachers([TeacherConfig("random", 3, d, k, seed=s)], kernel) for s in range(5)])
    mu, found = initial_particles([InitConfig("aligned", n, d, k, seed=s) for s in range(5)]), []
    for block, n_blocks in ((hessian.BLOCK, 1), (2 * (n * (k + d)) ** 2, 3), (1, 5)):
        monkeypatch.setattr(hessian, "BLOCK", block)
        assert len(list(hessian.dense_blocks(kernel, teacher, mu))) == n_blocks
        ends, table = polish(kernel, member(teacher, 0), mu, n_steps=5)
        numbers = ends.a, torch.tensor(table["loss"]), torch.tensor(table["curvature"])
        found.append((extreme_eigenvalues(kernel, teacher, mu), *numbers))
    for one in found[1:]:
        for x, y in zip(one, found[0], strict=True):
            assert torch.allclose(x, y, rtol=1e-8, atol=1e-10)
