"""Part I's configs: where each is drawn from, and a tiny run of what it configures."""

from pathlib import Path
from typing import Any

from icl_lib.softmax.cache import trained
from icl_lib.softmax.deep import DeepConfig, trained_deep
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.training import TrainConfig
from reliability.configs import Run, Space
from reliability.solvers import ONE_LAYER

TASKS = ONE_LAYER.tasks
SMALL: dict[str, Any] = {"patterns": ONE_LAYER.patterns, "prompts": ONE_LAYER.prompts}
FLAGS, SEEDS = (True, False), (0, 1, 7)


def train_one_layer(config: TrainConfig, folder: Path) -> object:
    """Trained, saved, and measured on prompts."""
    done = trained([config], folder)
    return done.params, done.losses, evaluate(done, [config.tasks], config.prompts, 50)


def of_training(name: str) -> Run:
    """A one-layer training with this part replaced."""

    def run(part: Any, folder: Path) -> object:
        return train_one_layer(TrainConfig(TASKS, **(SMALL | {name: part}), batch_size=8, n_steps=3), folder)

    return run


def train_deep(config: DeepConfig, folder: Path) -> object:
    """Trained and saved."""
    done = trained_deep([config], folder)
    return done.params, done.losses


def of_depth(model: Any, folder: Path) -> object:
    """A training of this network."""
    return train_deep(DeepConfig(TASKS, **SMALL, model=model, batch_size=8, n_steps=2), folder)


# fmt: off
PATTERNS = {"n_idr": (4,), "n_idi": (1, 3), "beta": (0.5, 2.0, 4), "d_x": (7, 8, 12), "d_y": (1, 3)}
PROMPTS = {"alpha": (0.4, 0.8, 1), "n_context": (1, 6), "kappa_max": (0, 0.5), "reading": ("independent", "exact")}
MODEL = {"m": (2, 10), "delta": (0.1, 0.2), "xi": (0.02, 0.1), "a_scale": (0.01,)}
GPT = {"depth": (1, 2), "heads": (1, 2), "width": (4, 8), "max_context": (6, 20)}
COMMON = {
    "tasks": (TASKS, ((0, 1),), ((0, 1), (1, 0)), ((0, 0),), ((0, 9),), [(0, 1)]), "seed": SEEDS,
    "patterns": (SMALL["patterns"],), "prompts": (SMALL["prompts"],), "batch_size": (1, 8),
    "train_attention": FLAGS, "require_cover": FLAGS,
}
TRAINING = COMMON | {
    "model": (ModelConfig(m=10),), "step_size": (0.5, 5.0, 50), "n_steps": (0, 1, 9), "fixed_prompts": (None, 1, 16),
}
DEEP = COMMON | {
    "model": (GPTConfig(1, 1, 8), StackConfig(2, 10)), "optimiser": ("adam", "sgd"), "step_size": (3e-4, 1),
    "n_steps": (0, 1, 3), "min_context": (1, 2, 6),
}
# fmt: on
RUNS: dict[str, tuple[Space, Run]] = {
    "PatternConfig": (Space(PatternConfig, PATTERNS, {"n_idr", "n_idi", "d_x", "d_y"}), of_training("patterns")),
    "PromptConfig (Part I)": (Space(PromptConfig, PROMPTS, {"n_context"}), of_training("prompts")),
    "ModelConfig": (Space(ModelConfig, MODEL, {"m"}), of_training("model")),
    "TrainConfig (Part I)": (Space(TrainConfig, TRAINING, {"batch_size", "n_steps", "fixed_prompts"}), train_one_layer),
    "GPTConfig": (Space(GPTConfig, GPT, set(GPT)), of_depth),
    "StackConfig": (Space(StackConfig, MODEL | {"depth": (1, 2)}, {"depth", "m"}), of_depth),
    "DeepConfig": (Space(DeepConfig, DEEP, {"batch_size", "n_steps", "min_context"}), train_deep),
}
