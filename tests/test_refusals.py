"""What the library is given from Python and cannot work with: one clear error, before anything is computed or taken."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.hessian import extreme_eigenvalues, gradient_and_hessian, hessian_product
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, member, teachers
from icl_lib.rng import generator
from icl_lib.softmax.model import ModelConfig, init_params
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.pruning import keep
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state, train
from icl_lib.validate import ConfigError

TEACHER = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
MU = initial_particles([InitConfig(n=6, d=4, k=2)])
CONFIG = TrainConfig(uniform_cover(6, 3, 0), n_steps=1)
STATE = initial_state([CONFIG])


def single(mu: Particles) -> Particles:
    return Particles(*(part.float() for part in mu))


@pytest.mark.parametrize(
    "call",
    [velocity, covariances, hessian_product, extreme_eigenvalues, gradient_and_hessian],
    ids=lambda call: call.__name__,
)
@pytest.mark.parametrize(
    ("teacher", "mu", "message"),
    [
        (TEACHER, single(MU), "particles={'a': 'float32', 'w': 'float32', 'p': 'float32'}: must be of float64"),
        (single(TEACHER), MU, "particles={'a': 'float32'"),
        (TEACHER, MU._replace(w=MU.w.float()), "particles={'a': 'float64', 'w': 'float32', 'p': 'float64'}"),
        (
            TEACHER,
            initial_particles([InitConfig(n=6, d=5, k=2)]),
            "teacher=(1, 4): must be of the particles' number of",
        ),
        (TEACHER, initial_particles([InitConfig(n=6, d=4, k=2)] * 3), "teacher=(1, 4): must be of .*, (3, 4)"),
    ],
    ids=["single precision", "single teacher", "mixed", "other d", "other members"],
)
def test_particles_of_another_kind(call: Callable, teacher: Particles, mu: Particles, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        call(Erf(), teacher, mu)
    first, _, rest = message.partition(".*")
    assert str(refused.value).startswith(first) and str(refused.value).endswith(rest)


def test_a_flow_of_particles_in_single_precision() -> None:
    with pytest.raises(ConfigError, match="^particles={'a': 'float32'"):
        start(single(MU))
    with pytest.raises(ConfigError, match="^teacher="):
        flow(Erf(), TEACHER, start(initial_particles([InitConfig(n=6, d=4, k=2)] * 2)), FlowConfig())


@pytest.mark.parametrize(
    "call",
    [
        lambda configs: train(configs),
        lambda configs: teachers(configs, Erf()),
        lambda configs: initial_particles(configs),
        lambda configs: sample_prompts(configs, task_table([all_tasks(6)]), [0], (6, 24), 5, "eval"),
    ],
    ids=["train", "teachers", "initial_particles", "sample_prompts"],
)
@pytest.mark.parametrize("configs", [CONFIG, []], ids=["one", "none"])
def test_one_config_or_none_instead_of_a_list(call: Callable, configs: object) -> None:
    with pytest.raises(ConfigError, match="^configs=.*: must be a list with one entry per member, at least one$"):
        call(configs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda"), "gpu"])
def test_a_device_that_is_not_here(device: torch.device | str) -> None:
    with pytest.raises(ConfigError, match="^device='(cuda|gpu).*: must be 'cpu'"):
        train([CONFIG], device=device)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: init_params(ModelConfig(m=10**10), PatternConfig(), 0), "m=10000000000"),
        (lambda: train([replace(CONFIG, model=ModelConfig(m=10**10))]), "m=10000000000"),
        (lambda: initial_particles([InitConfig(n=10**10, d=4, k=2)]), "n=10000000000"),
        (
            lambda: sample_prompts(
                [PromptConfig(n_context=10**6)], task_table([all_tasks(6)]), [0], (6, 24), 10**7, "eval"
            ),
            r"n_prompts, n_context=\(10000000, 1000000\)",
        ),
        (
            lambda: gradient_and_hessian(Erf(), TEACHER, initial_particles([InitConfig(n=200_000, d=4, k=2)])),
            r"particles=\(1, 200000, 4\)",
        ),
    ],
    ids=["neurons", "training", "particles", "prompts", "hessian"],
)
def test_what_this_machine_cannot_hold_is_refused_with_its_size(call: Callable, field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: must be smaller: it takes .* GiB, this machine has"):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train([CONFIG, replace(CONFIG, model=ModelConfig(m=20))]), "configs={.*alike in m"),
        (lambda: train([CONFIG, replace(CONFIG, patterns=PatternConfig(6, 20))]), "members={.*alike in numbers"),
        (lambda: train([CONFIG], every=0), "every=0: must be an integer >= 1"),
        (lambda: train([CONFIG], STATE._replace(step=5)), r"start.step=5: must be an integer in \[0, 1\]"),
        (lambda: train([CONFIG], STATE._replace(losses=torch.zeros(1, 3))), r"start.losses=\(1, 3\): must be one of"),
        (lambda: train([CONFIG] * 2, initial_state([CONFIG])), r"start.losses=\(1, 0\)"),
        (lambda: initial_particles([InitConfig(n=6, d=4, k=2), InitConfig(n=7, d=4, k=2)]), "configs={.*alike in n"),
        (lambda: member(MU, 1), r"e=1: must be an integer in \[0, 0\]"),
        (lambda: keep(torch.tensor([[1.0, torch.nan]]), [0.5]), "scores=.*must be finite"),
        (lambda: keep(torch.tensor([[1.0, 2.0]]), 0.5), "rates=0.5: must be a list"),
        (lambda: generator(None, "train"), "seed=None: must be an integer"),
    ],
)
def test_what_does_not_fit_together(call: Callable, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        call()
