"""The number of training steps, from the equations of the start (question Q14; ours).

Two numbers grow together: g, how much higher a context with the query's own pattern scores, and V, how much the output
depends on the label that attention pools. With S = delta^2 + xi^2 d, d = d_X + d_Y, k = a (c m/2)^{1/2} and f = 1 - 1/l,

    I' = eta f alpha g / 2        (what the label's direction has been pushed by; alpha g / 2 is the mean of z ybar)
    V  = (k S / 2) sinh(2 k I)    (W_O and W_V grow at each other's rate)
    g' = eta f alpha beta^2 V g / M1,    g(0) = delta^2 beta^2.

So g = delta^2 beta^2 + (beta^2 S / (2 M1)) (cosh(2 k I) - 1), and I reaches infinity at a finite time, ``blow_up``. Where
S / (2 M1) is large against delta^2 that time is pi (2 / c)^{1/2} / f times the scale of ``power_law``. A neuron hands on to
one prompt what it learnt from another where it fires on both: c / 2 is that probability, see ``Setting.shared``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.integrate import solve_ivp

from icl_lib.rng import generator
from icl_lib.softmax.curves import steps_to_reach, survivors
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.tasks import uniform_cover, unseen
from icl_lib.softmax.training import TrainConfig
from icl_lib.stats import affine_fit, checked_curves, log_log
from icl_lib.validate import require_integer, require_number

# The box that settings are drawn from, uniformly in the logarithm; m is made even and M1 whole.
BOX = {
    "delta": (0.1, 0.4),
    "xi": (0.01, 0.08),
    "m": (25.0, 200.0),
    "a": (0.004, 0.04),
    "alpha": (0.2, 1.0),
    "beta": (1.25, 5.0),
    "n_idr": (4.0, 16.0),
    "step_size": (0.5, 20.0),
}
STABLE = 150.0  # eta beta^2; beyond, steps were not always stable in pilots, and there is no T
TEST = PromptConfig(alpha=1.0, reading="exact")  # the prompts that L2 tests on


@dataclass(frozen=True)
class Setting:
    """What the number of steps may depend on; the defaults are L2's.

    Attributes:
        delta, xi, m, a: of the start, as in ``ModelConfig``.
        alpha: fraction of relevant contexts in training.
        beta: norm of the patterns.
        n_idr: M1.
        step_size: eta.
        n_context: l.
    """

    delta: float = 0.2
    xi: float = 0.02
    m: int = 100
    a: float = 0.01
    alpha: float = 0.8
    beta: float = 2.0
    n_idr: int = 6
    step_size: float = 5.0
    n_context: int = 20

    @property
    def patterns(self) -> PatternConfig:
        """Of the data: 24 irrelevant patterns beside the relevant ones."""
        return PatternConfig(self.n_idr, 24, self.beta, d_x=self.n_idr + 24)

    @property
    def spread(self) -> float:
        """S = delta^2 + xi^2 d."""
        return float(self.delta**2 + self.xi**2 * (self.patterns.d_x + self.patterns.d_y))

    @property
    def shared(self) -> float:
        """c: twice the probability that a neuron of the start fires on both of two training prompts, 1 - arccos(rho) / pi.

        rho is the mean product of two pooled tokens over their mean square, at equal attention: a token is a mean of l
        contexts with beta^2 of relevant part, beta^2 K^2 / 3 of irrelevant part and 1 of label.
        """
        own = self.alpha**2 / 2 + (1 - self.alpha) ** 2 / (self.n_idr - 2)
        irrelevant = PromptConfig().kappa_max ** 2 / 3
        square = own + (1 - own + irrelevant + self.beta**-2) / self.n_context
        return 1 - math.acos(1 / (self.n_idr * square)) / math.pi

    @property
    def gain(self) -> float:
        """k = a (c m / 2)^{1/2}."""
        return float(self.a * math.sqrt(self.shared * self.m / 2))

    @property
    def finite(self) -> float:
        """f = 1 - 1/l: the mean over prompts of l contexts, where a token also competes with itself."""
        return 1 - 1 / self.n_context

    def config(self, seed: int, n_steps: int, train_attention: bool = True) -> TrainConfig:
        """A training run, on a uniform cover of about 0.6 of all tasks."""
        return TrainConfig(
            uniform_cover(self.n_idr, round(0.6 * (self.n_idr - 1)), seed),
            seed,
            self.patterns,
            PromptConfig(self.alpha, self.n_context),
            ModelConfig(self.m, self.delta, self.xi, self.a),
            step_size=self.step_size,
            n_steps=n_steps,
            train_attention=train_attention,
        )


def power_law(s: Setting) -> float:
    """M1^{1/2} / (eta alpha beta^2 delta a m^{1/2} S^{1/2}): the law up to its constant."""
    return math.sqrt(s.n_idr / (s.m * s.spread)) / (s.step_size * s.alpha * s.beta**2 * s.delta * s.a)


def with_theorem(s: Setting) -> float:
    """The law with the exponents of the theorem of Li et al. (2024) in alpha, beta and M1, up to its constant."""
    of_data = s.n_idr * math.sqrt(math.log(s.n_idr)) / (s.alpha * s.beta) ** (2 / 3)
    return of_data / (s.step_size * s.delta * s.a * math.sqrt(s.m * s.spread))


def linear_growth(s: Setting) -> float:
    """Where V grows in proportion to I (sinh x replaced by x): the power law with the constant pi (2 / c)^{1/2} / f."""
    return math.pi * math.sqrt(2 / s.shared) / s.finite * power_law(s)


def blow_up(s: Setting) -> float:
    """Steps until g and V are infinite: the integral of dx / (p - q + q cosh x) over x > 0, over eta f k alpha beta^2.

    Here p = delta^2 and q = S / (2 M1).
    """
    p, q = s.delta**2, s.spread / (2 * s.n_idr)
    r = (p - q) / q
    if abs(r - 1) < 1e-9:
        integral = 1 / q
    else:
        integral = (math.acosh(r) if r > 1 else math.acos(r)) / (q * math.sqrt(abs(r**2 - 1)))
    return integral / (s.step_size * s.finite * s.gain * s.alpha * s.beta**2)


def integrated(s: Setting, threshold: float = 0.2, joint: bool = True, longest: float = 1e4) -> float:
    """Steps until the loss is at the threshold, with softmax attention in place of its slope at the start; no constant.

    The state is x = 2 k I, g, and h, by how much the partner's pattern scores less than all others.

    Args:
        joint: False lets V grow in proportion to I, a control.
        longest: NaN beyond so many steps.
    """
    require_number("threshold", threshold, 1e-9, 1 - 1e-9)
    of_gap = 2 * s.step_size * s.finite * s.beta**2 / s.n_idr

    def value(x: float) -> float:
        return s.gain * s.spread / 2 * (math.sinh(min(x, 50.0)) if joint else x)

    def rates(_: float, state: np.ndarray) -> list[float]:
        x, g, h = state
        own, partner = s.alpha / 2 * math.exp(min(g, 50.0)), s.alpha / 2 * math.exp(-min(h, 50.0))
        whole = own + partner + 1 - s.alpha
        own, partner = own / whole, partner / whole
        push = of_gap * g * value(x)
        return [
            2 * s.gain * s.step_size * s.finite * (own - partner),
            push * own * (1 - own + partner),
            push * partner * (1 + own - partner) / (s.n_idr - 1),
        ]

    def learned(_: float, state: np.ndarray) -> float:
        return value(state[0]) * math.tanh((state[1] + state[2]) / 2) - (1 - threshold)

    learned.terminal = True  # type: ignore[attr-defined]
    start = [0.0, (s.delta * s.beta) ** 2, 0.0]
    path = solve_ivp(rates, (0, longest), start, "LSODA", events=learned, rtol=1e-6, atol=1e-9)
    return float(path.t_events[0][0]) if len(path.t_events[0]) else math.nan


def draw(n: int, number: int, shortest: float = 25.0, longest: float = 250.0) -> list[Setting]:
    """n settings from `BOX`, from the stream (number, "settings"): those whose ``blow_up`` is between two numbers of steps.

    Settings with eta beta^2 above `STABLE` are left out.
    """
    require_integer("n", n, 1)
    gen, found = generator(number, "settings"), list[Setting]()
    while len(found) < n:
        at = torch.rand(len(BOX), generator=gen, dtype=torch.float64).tolist()
        value = {name: low * (high / low) ** u for u, (name, (low, high)) in zip(at, BOX.items(), strict=True)}
        whole = {"m": 2 * round(value.pop("m") / 2), "n_idr": round(value.pop("n_idr"))}
        setting = Setting(**value, **whole)
        if setting.step_size * setting.beta**2 <= STABLE and shortest <= blow_up(setting) <= longest:
            found.append(setting)
    return found


def measured(
    settings: Sequence[Setting],
    seeds: Sequence[int],
    max_steps: int,
    threshold: float = 0.2,
    train_attention: bool = True,
) -> pd.DataFrame:
    """T of every setting and seed as in L2: the first step at which the hinge loss on unseen tasks is at the threshold.

    Returns:
        One row each: setting (its place), seed, steps (NaN: not in ``max_steps``, or diverged).
    """
    tables = []
    for place, setting in enumerate(settings):
        run = partial(_steps, setting.n_idr, threshold)
        found, fate = survivors(run, [setting.config(seed, max_steps, train_attention) for seed in seeds])
        steps = {} if found is None else dict(zip(found["seed"], found["steps"], strict=True))
        tables.append(fate.assign(setting=place, steps=[steps.get(seed, math.nan) for seed in seeds]))
    return pd.concat(tables, ignore_index=True)[["setting", "seed", "diverged", "steps"]]


def _steps(n_idr: int, threshold: float, configs: Sequence[TrainConfig]) -> pd.DataFrame:
    return steps_to_reach(configs, [unseen(c.tasks, n_idr) for c in configs], TEST, [threshold])


def constant(table: pd.DataFrame, law: Sequence[float]) -> float:
    """The geometric mean of T over the law's number for its setting; runs without a T are left out."""
    ratios = table["steps"] / np.array(law)[table["setting"]]
    return float(np.exp(np.log(ratios.dropna()).mean()))


def log_errors(table: pd.DataFrame, law: Sequence[float]) -> pd.Series:
    """Root mean square over settings of ln(T / law), one number a seed; runs without a T are left out."""
    errors = np.log(table["steps"] / np.array(law)[table["setting"]])
    return errors.pow(2).groupby(table["seed"]).mean().pow(0.5)


def exponents(settings: Sequence[Setting], values: Sequence[float]) -> pd.Series:
    """Least-squares exponents of a number of steps in each of the quantities of `BOX`, all at once."""
    design = np.array([[1.0, *(math.log(getattr(s, name)) for name in BOX)] for s in settings])
    kept = np.isfinite(np.array(values, float))
    slopes = np.linalg.lstsq(design[kept], np.log(np.array(values, float)[kept]))[0]
    return pd.Series(slopes[1:], index=list(BOX))


def extrapolate(
    x: Sequence[float], values: np.ndarray, shape: Callable[[np.ndarray], np.ndarray], n_fitted: int
) -> pd.DataFrame:
    """T = C x^p and T = A shape(x) + B fitted to the points with the shortest T; how far off they are at the others.

    Args:
        x: (points,), in the order of falling T.
        values: (seeds, points), positive.
        n_fitted: of the last points, at least two.

    Returns:
        One row a seed: free and fixed, the root mean squares of the log errors of prediction.

    Raises:
        ConfigError: for a value that is missing or not positive.
    """
    points, values, _ = checked_curves(x, values, 3)
    log_values = np.log(values)
    require_integer("n_fitted", n_fitted, 2, len(points) - 1)
    cut = len(points) - n_fitted
    slopes, offsets, _ = log_log(points[cut:], values[:, cut:])
    free = slopes[:, None] * np.log(points[:cut]) + offsets[:, None]
    u, fixed = shape(points), []
    for row in log_values:
        slope, offset, _ = affine_fit(u[cut:], row[cut:])
        fixed.append(np.log(np.maximum(slope * u[:cut] + offset, 1e-9)))
    errors = [np.sqrt(((found - log_values[:, :cut]) ** 2).mean(1)) for found in (free, np.array(fixed))]
    return pd.DataFrame(dict(zip(("free", "fixed"), errors, strict=True)))


def varied(name: str, values: Sequence[float], **fixed: float) -> list[Setting]:
    """The default with one quantity varied."""
    base = replace(Setting(), **fixed)  # type: ignore[arg-type]
    return [replace(base, **{name: value}) for value in values]  # type: ignore[arg-type]
