"""Critical points that are no global minimum, constructed for any k, spectrum and set of missing outputs (ours).

Teacher: neuron j on axis j, whitened, Sigma_{mu° mu°} = diag(lambda). Model: the teacher's neuron for every output that
is learnt; for each missing output a neuron on an axis that the teacher does not use. For an odd activation features on
different axes are uncorrelated, so M = A B^{-1} is the identity on learnt outputs and 0 on missing ones: M^T zeta = 0,
dL/dmu vanishes on all of Theta, and L is half the sum of the missing lambda. Rotating x, mapping the outputs by an
invertible R (L does not see it) and splitting particles keep this true and make the point look like any other.
"""

from dataclasses import dataclass

import torch

from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles, TeacherConfig, covariance, teachers, uniform
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer


@dataclass(frozen=True)
class SaddleConfig:
    """One constructed critical point, with its teacher.

    Attributes:
        spectrum: lambda_1 .. lambda_k, positive.
        missing: J, indices of the outputs that the model misses; none gives a global minimum.
        d: inputs, at least k + |J|.
        size: length of the weights w.
        copies: particles that each neuron is split into, with random masses.
        rotate: turn x by a random rotation. mix: map the model's outputs by a random invertible matrix.
        seed: of the stream "saddle".
    """

    spectrum: tuple[float, ...] = (1.0, 0.7, 0.5, 0.3, 0.2)
    missing: tuple[int, ...] = (0,)
    d: int = 20
    size: float = 2.0
    copies: int = 1
    rotate: bool = True
    mix: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("spectrum", "missing"):
            require(isinstance(getattr(self, name), tuple), name, getattr(self, name), "a tuple")
        k = len(self.spectrum)
        inside = all(isinstance(j, int) and 0 <= j < k for j in self.missing)
        require(
            inside and len(set(self.missing)) == len(self.missing),
            "missing", self.missing, f"different output numbers below k = {k}",
        )  # fmt: skip
        least = k + len(self.missing)
        require_integer(
            "d", self.d, least, allowed=f"at least k + |J| = {least}: each missing output needs a free axis"
        )
        require_integer("copies", self.copies, 1)
        self.teacher()  # checks spectrum, size and seed

    def teacher(self) -> TeacherConfig:
        """The teacher: neuron j on axis j, with this spectrum."""
        k = len(self.spectrum)
        return TeacherConfig("axes", k, self.d, k, self.size, self.spectrum, self.seed)

    def height(self) -> float:
        """L at the saddle: half the sum of the missing lambda."""
        return sum(self.spectrum[j] for j in self.missing) / 2


def saddle(config: SaddleConfig, kernel: Kernel) -> tuple[Particles, Particles]:
    """Teacher and model (ensembles of one).

    Raises:
        ConfigError: for an activation that is not odd, under which features on different axes are correlated.

    >>> from icl_lib.mean_field.erf import Erf
    >>> from icl_lib.mean_field.landscape import covariances, loss
    >>> config = SaddleConfig(spectrum=(1.0, 0.6), missing=(1,), d=4)
    >>> round(float(loss(covariances(Erf(), *saddle(config, Erf())))), 6), config.height()
    (0.3, 0.3)
    """
    teacher = teachers([config.teacher()], kernel)
    c = covariance(kernel, teacher, teacher)[0]
    k, d, gen = len(config.spectrum), config.d, generator(config.seed, "saddle")
    w = teacher.w[0].clone()
    w[list(config.missing)] = config.size * torch.eye(d, dtype=w.dtype)[k : k + len(config.missing)]
    a = k * torch.eye(k, dtype=w.dtype)
    plain = Particles(a[None], w[None], uniform(k))
    cross = covariance(kernel, teacher, plain)[0][:, list(config.missing)]
    odd = bool((cross.abs() < 1e-9 * c.abs().max()).all())
    require(odd, "kernel", type(kernel).__name__, "of an odd activation, so that axes are uncorrelated")
    if config.rotate:
        turn = torch.linalg.qr(torch.randn(d, d, generator=gen, dtype=w.dtype)).Q
        w, teacher = w @ turn, teacher._replace(w=teacher.w @ turn)
    if config.mix:
        a = a @ torch.randn(k, k, generator=gen, dtype=w.dtype)
    masses = torch.rand(k, config.copies, generator=gen, dtype=w.dtype) + 0.2
    masses = (masses / masses.sum(1, keepdim=True) / k).flatten()
    a, w = (part.repeat_interleave(config.copies, dim=0)[None] for part in (a, w))
    return teacher, Particles(a, w, masses[None])
