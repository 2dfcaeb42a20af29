"""The model behind the page "Play": ``python -m tools.play`` trains it and writes its weights for the browser."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from icl_lib.lineage import trigger
from icl_lib.paths import write_atomic
from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import ood_mixing, out_of_domain
from icl_lib.softmax.pruning import random
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, config_json, initial_state, train

FILE = Path("_static/play/model.js")
CONFIG = TrainConfig(tasks=uniform_cover(6, 3, 0), seed=0)  # L1's default setting, its first seed
NEW_PATTERNS = 3  # out of domain, as in L4
USED = [f"icl_lib.softmax.{name}" for name in ("training.train", "patterns.out_of_domain", "pruning.random")]
HEAD = (
    "// Weights of one model at L1's default setting, and its patterns. Written by `make play`; not to be edited.\n"
    '"use strict";\n'
    "window.Play = window.Play || {};\n"
    "window.Play.model = "
)


def source_hash() -> str:
    """Hash of the config and of the library code that the weights depend on."""
    return hashlib.sha256((config_json(CONFIG) + trigger(*USED)).encode()).hexdigest()[:16]


def _numbers(values: Tensor) -> str:
    """A vector on one line, a matrix with a row a line: 7 significant digits, about all that a float32 has."""
    if values.dim() == 1:
        return "[" + ",".join(f"{x:.7g}" for x in values.tolist()) + "]"
    return "[\n" + ",\n".join(map(_numbers, values)) + "\n]"


def _object(parts: Mapping[str, str]) -> str:
    return "{\n" + ",\n".join(f'"{name}": {text}' for name, text in parts.items()) + "\n}"


def _weights(params: Params) -> str:
    of_member = {"w_q": params.w_q, "w_k": params.w_k, "w_v": params.w_v, "w_o": params.w_o, "a": params.a}
    return _object({name: _numbers(weight[0]) for name, weight in of_member.items()})


def script() -> str:
    """Train, and return the text of the file."""
    ensemble, start = train([CONFIG], device="cpu"), initial_state([CONFIG])
    patterns = ensemble.patterns._replace(basis=ensemble.patterns.basis[0])
    new = out_of_domain(patterns, NEW_PATTERNS, patterns.counts[1], 0.0, CONFIG.seed)
    parts = {
        "source": json.dumps(source_hash()),
        "config": config_json(CONFIG),
        "relevant": _numbers(patterns.relevant),
        "irrelevant": _numbers(patterns.irrelevant),
        "label": _numbers(patterns.label),
        # Mixing rows at S1 = 0: the page makes those of any other S1 out of them.
        "mixing": _numbers(ood_mixing(NEW_PATTERNS, patterns.n_relevant, 0.0, CONFIG.seed)),
        "new_irrelevant": _numbers(new.irrelevant),
        # Place of each neuron in the random order of pruning, which does not depend on the weights.
        "random_order": _numbers(random(ensemble.params, [CONFIG.seed])[0].argsort().argsort()),
        "untrained": _weights(start.params),
        "trained": _weights(ensemble.params),
    }
    return f"{HEAD}{_object(parts)};\n"


def load(file: Path = FILE) -> dict:
    """What the file holds, as Python reads it."""
    return json.loads(file.read_text(encoding="utf-8").removeprefix(HEAD).rstrip(";\n"))


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in the chapters: sums of two threads end in other digits
    write_atomic(FILE, script().encode())
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")
