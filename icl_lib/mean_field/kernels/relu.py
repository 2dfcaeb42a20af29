"""sigma = ReLU (Cho & Saul 2009, arc-cosine kernel of order 1):

K(w, v) = |w| |v| (sin t + (pi - t) cos t) / (2 pi), t the angle between w and v.
"""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import loops
from icl_lib.mean_field.kernels.base import Zonal


class ReLU(Zonal):
    """Exact for x ~ N(0, I_d); phi(w) = w / |w|, alpha = |w|. A particle at w = 0 has no gradient (not finite).

    Not ``smooth``: the closed form has no second derivative that autograd could take where two particles coincide.

    >>> w = torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)
    >>> round(float(ReLU().gram(w, w)), 6)  # |w|^2 / 2
    12.5
    """

    kind = loops.RELU
    smooth = False

    def embed(self, w: Float[Tensor, "E N d"]) -> tuple[Float[Tensor, "E N d"], Float[Tensor, "E N"]]:
        norm = torch.linalg.vector_norm(w, dim=-1)
        return w / norm[..., None], norm

    def kappa(self, z: Tensor) -> Tensor:
        z = z.clamp(-1, 1)  # rounding can lead past the ends
        return ((1 - z * z).sqrt() + (pi / 2 + z.asin()) * z) / (2 * pi)
