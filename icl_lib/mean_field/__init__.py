"""Part II: linear attention on an MLP feature map, in the mean-field limit and trained (Kim & Suzuki 2024).

A kernel (`Erf`, `ReLU`, `tanh`: the exact expectations of an activation), a teacher and a measure of particles give
`covariances`, a `loss`, its `first_variation`, a `velocity`; `flow` follows that from a `start` and returns the final
state and a tidy table of the way; `displace` and `BirthDeath` change it::

    teacher = teachers([TeacherConfig()], Erf())
    state, history = flow(Erf(), teacher, start(initial_particles([InitConfig(n=200, seed=0)])), FlowConfig(cap=0.2))

The paper's Transformer is trained from a `TrainConfig` by `train` (`trained` keeps it on disk). What stands here is
what most uses need; the modules hold the rest: `hessian`, `moments`, `critical_points`, `learners` and others.
"""

from icl_lib.mean_field.changes import BirthDeath, displace, isotropic
from icl_lib.mean_field.critical_points import SaddleConfig, gaussian_process, saddle
from icl_lib.mean_field.flows import FlowConfig, Joint, flow, joint_flow, start
from icl_lib.mean_field.hessian import extreme_eigenvalues
from icl_lib.mean_field.kernels import Erf, ReLU, activation, sigmoid, tanh
from icl_lib.mean_field.landscape import covariances, first_variation, loss, velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, member, stack, teachers
from icl_lib.mean_field.moments import loss_n, optimum_n
from icl_lib.mean_field.prompts import PromptConfig
from icl_lib.mean_field.runs import trained
from icl_lib.mean_field.training import TrainConfig, train
from icl_lib.mean_field.transformer import Transformer

__all__ = [
    "BirthDeath",
    "Erf",
    "FlowConfig",
    "InitConfig",
    "Joint",
    "Particles",
    "PromptConfig",
    "ReLU",
    "SaddleConfig",
    "TeacherConfig",
    "TrainConfig",
    "Transformer",
    "activation",
    "covariances",
    "displace",
    "extreme_eigenvalues",
    "first_variation",
    "flow",
    "gaussian_process",
    "initial_particles",
    "isotropic",
    "joint_flow",
    "loss",
    "loss_n",
    "member",
    "optimum_n",
    "saddle",
    "sigmoid",
    "stack",
    "start",
    "tanh",
    "teachers",
    "train",
    "trained",
    "velocity",
]
