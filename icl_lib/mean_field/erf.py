"""sigma = erf (Williams 1998): K(w, v) = (2 / pi) arcsin(2 w^T v / sqrt((1 + 2 |w|^2)(1 + 2 |v|^2)))."""

from math import pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from icl_lib.mean_field.kernels import Zonal


class Erf(Zonal):
    """Exact for x ~ N(0, I_d); phi(w) = w sqrt(2 / (1 + 2 |w|^2)), alpha^2 = 2 / pi."""

    alpha_varies = False

    def embed(self, w: Float[Tensor, "E N d"]) -> tuple[Float[Tensor, "E N d"], Float[Tensor, "E N"]]:
        scale = (0.5 + (w * w).sum(-1)).rsqrt()
        return w * scale[..., None], torch.full_like(scale, sqrt(2 / pi))

    def kappa(self, z: Tensor) -> Tensor:
        return z.asin()

    def kappa_(self, z: ndarray) -> None:
        np.arcsin(z, out=z)

    def slope_(self, z: ndarray) -> None:
        z *= z
        np.subtract(1, z, out=z)
        torch.from_numpy(z).rsqrt_()
