"""Part I: softmax attention with a ReLU MLP, trained on pattern classification (Li et al. 2024).

Settings (`PatternConfig`, `PromptConfig`, `ModelConfig`) make a `TrainConfig`; `train` makes an `Ensemble` of a list of them, one member
each (`trained` keeps it on disk); `evaluate` and its like make a tidy table of that, with a column of seeds, whose intervals
`icl_lib.summary.summarise` gives::

    configs = [TrainConfig(tasks=uniform_cover(6, 3, seed), seed=seed) for seed in range(10)]
    table = evaluate(train(configs), [unseen(c.tasks, 6) for c in configs], PromptConfig(reading="exact"))

What stands here is what most uses need; the modules hold the rest: `mechanism`, `pruning`, `floors`, `deep` and others.
"""

from icl_lib.softmax.cache import trained
from icl_lib.softmax.curves import complete, learning_curve, outcomes
from icl_lib.softmax.deep import DeepConfig, train_deep, trained_deep
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.evaluation import evaluate, evaluate_params
from icl_lib.softmax.floors import bayes_floor, exact_counts, vote_floor
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.softmax.mechanism import is_small, neurons
from icl_lib.softmax.model import ModelConfig, Params, forward
from icl_lib.softmax.ood import evaluate_ood
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts
from icl_lib.softmax.pruning import evaluate_pruned, keep, magnitude
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import uniform_cover, unseen
from icl_lib.softmax.training import TrainConfig, initial_state, train

__all__ = [
    "DeepConfig",
    "Ensemble",
    "GPTConfig",
    "ModelConfig",
    "Params",
    "PatternConfig",
    "PromptConfig",
    "StackConfig",
    "TrainConfig",
    "bayes_floor",
    "complete",
    "evaluate",
    "evaluate_ood",
    "evaluate_params",
    "evaluate_pruned",
    "exact_counts",
    "forward",
    "initial_state",
    "is_small",
    "keep",
    "learning_curve",
    "magnitude",
    "neurons",
    "outcomes",
    "sample_prompts",
    "train",
    "train_deep",
    "trained",
    "trained_deep",
    "uniform_cover",
    "unseen",
    "vote_floor",
]
