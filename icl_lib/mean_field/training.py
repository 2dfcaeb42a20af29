"""What a training run of Paper K's Transformer is made of, and where it stands between two epochs.

What W does is the mode:

- "joint": gradient steps. A step is stated as a share of 1 / (lambda_max(S) lambda_max(B~)), the curvature in W, with the bound
  lambda_max(S) <= lambda_max(B~) s, s = (1 + 2/n) lambda_max(C) + (tr C + noise^2) / n (as for Gaussian f° and h at small n),
  in the coordinates in which the features of the start are white: B~(0) = 1. There W starts at ``w_start`` times 1.
- "static": W = W_mu = B~^{-1} at every step, exactly (the two-timescale model); the gradient holds W fixed.
- "static_finite": W = W_n, the optimum for n contexts (``finite_prompts``); here the envelope theorem holds at every n.
- "softmax": as "joint", with softmax attention in place of linear (``softmax_attention``).
- "attention": h~ = (x, 1), no MLP; W as in "joint".

All of this is our choice; the paper states the sizes of model and data only.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from icl_lib.mean_field.activations import activation
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.modified import Modification
from icl_lib.mean_field.regression import PromptConfig
from icl_lib.mean_field.transformer import Transformer
from icl_lib.validate import require, require_choice, require_integer, require_number

BEGUN = 0.9  # share of the loss of predicting 0 above which nothing has been learned yet
MODES = ("joint", "static", "static_finite", "softmax", "attention")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines one training run; a member of an ensemble is one of these.

    Attributes:
        mode: one of ``MODES``.
        teacher, start: f°, and where the model starts; each has a seed of its own.
        activation: sigma of both.
        prompts: the law of training prompts.
        constant: whether 1 is among the features.
        seed: of prompts, births and perturbations.
        n_prompts, batch: prompts of an epoch and of a step.
        fresh: new prompts in every epoch; False: the same ones again (drawn again, not kept).
        dt, cap: longest step, and longest root mean square displacement of particles in one.
        w_rate: "joint", "softmax", "attention": step of W as a share of the largest safe one; above 2 it diverges.
        w_start: "joint", "softmax", "attention": W(0) over B~(0)^{-1}.
        patience, improvement: steps are shortened if the epoch's loss has not fallen by this share below its best in as
            many epochs.
        plateau: the patience while the loss is above 0.9 times that of predicting 0: flows from random starts begin on a
            saddle, where the loss hardly falls for a while.
        shorten, n_shorten: factor on dt, cap and w_rate, and how many times.
        max_epochs: training stops here, converged or not, and says which.
        modification: births and perturbations, or None.
    """

    mode: str = "static"
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    start: InitConfig = field(default_factory=InitConfig)
    activation: str = "sigmoid"
    prompts: PromptConfig = field(default_factory=PromptConfig)
    constant: bool = True
    seed: int = 0
    n_prompts: int = 10_000
    batch: int = 50
    fresh: bool = False
    dt: float = 0.5
    cap: float = 0.3
    w_rate: float = 1.0
    w_start: float = 0.3
    patience: int = 2
    plateau: int = 8
    improvement: float = 0.1
    shorten: float = 0.2
    n_shorten: int = 2
    max_epochs: int = 60
    modification: Modification | None = None

    def __post_init__(self) -> None:
        require_choice("mode", self.mode, MODES)
        for name, kind in (("teacher", TeacherConfig), ("start", InitConfig), ("prompts", PromptConfig)):
            require(isinstance(getattr(self, name), kind), name, getattr(self, name), f"a {kind.__name__}")
        activation(self.activation)
        for name in ("constant", "fresh"):
            require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")
        require_integer("seed", self.seed, 0)
        for name in ("n_prompts", "batch", "patience", "plateau", "max_epochs"):
            require_integer(name, getattr(self, name), 1)
        require_integer("n_shorten", self.n_shorten, 0)
        require(self.n_prompts % self.batch == 0, "batch", self.batch, f"a divisor of n_prompts = {self.n_prompts}")
        for name in ("dt", "cap", "w_rate"):
            require_number(name, getattr(self, name), low=1e-12, allowed="a finite number above 0")
        require_number("w_start", self.w_start, low=0)
        require_number("improvement", self.improvement, 0, 1)
        require_number("shorten", self.shorten, 1e-3, 1)
        require(self.start.d == self.teacher.d, "start.d", self.start.d, f"d = {self.teacher.d} of the teacher")
        ok = self.modification is None or (isinstance(self.modification, Modification) and self.mode != "attention")
        require(ok, "modification", self.modification, "a Modification or None, and None without an MLP")


class State(NamedTuple):
    """A run between two epochs; with the config it determines the rest of the run.

    best, stale: mean training loss of the epoch that last improved on those before, and epochs since then (or since steps
    were shortened).
    shortened: how often; time: sum of steps; converged: whether training is over by its own rule.
    """

    model: Transformer
    time: float = 0.0
    epoch: int = 0
    best: float = float("inf")
    stale: int = 0
    shortened: int = 0
    converged: bool = False


def judged(config: TrainConfig, state: State, mean: float, zero: float) -> State:
    """The rule that shortens steps and ends training, applied to an epoch's mean loss; `zero` is that of predicting 0."""
    if mean < (1 - config.improvement) * state.best:
        return state._replace(best=mean, stale=0)
    state = state._replace(stale=state.stale + 1)
    if state.stale < (config.plateau if mean > BEGUN * zero else config.patience):
        return state
    if state.shortened == config.n_shorten:
        return state._replace(converged=True)
    return state._replace(stale=0, shortened=state.shortened + 1)
