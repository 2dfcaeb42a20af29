"""Training of a GPT-2 with 20 contexts by Adam: ours against the GPT2Model of ``transformers``, one seed at a time by autograd.

At first every prompt has a gradient; after ``SETTLED`` steps few have, and ours leaves out the others. Whole runs are
400 steps with lengths of 2 to 20, as in the chapters.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Size, beside, counted, sizes
from benchmarks.learners import Dense, dense, take_steps
from icl_lib.rng import generator
from icl_lib.softmax.deep import DeepConfig, initial_params, train_deep
from icl_lib.softmax.evaluation import select
from icl_lib.softmax.gpt import GPTParams
from icl_lib.softmax.patterns import draw_patterns
from icl_lib.softmax.prompts import sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, uniform_cover

STEPS, SETTLED, WHOLE = 2, 200, 400  # steps of a call; steps after which the training has settled; of a whole run
BATCH, MEMBERS = 128, 10
ONE = Size("batch", BATCH, 1)
UNIT = "s per step of one model"
TOLERANCE = 1e-3  # of the losses


def gpt2_model(params: GPTParams, **options: Any) -> Any:
    """transformers' GPT2Model without dropout, with the weights of one member (E = 1) in float32."""
    transformers: Any = import_module("transformers")  # takes seconds, which only this baseline should cost
    p = GPTParams(*(weight[0] for weight in params))
    depth, w, _, heads, _ = p.qkv.shape
    sizes = {"n_layer": depth, "n_head": heads, "n_embd": w, "n_positions": len(p.position), "vocab_size": 1}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2Model(transformers.GPT2Config(**sizes, **off, **options))
    state = {"wte.weight": torch.zeros(1, w), "wpe.weight": p.position}  # the token embedding is not used
    state |= {"ln_f.weight": p.norm_out[0], "ln_f.bias": p.norm_out[1]}
    for i in range(depth):
        of_block = {
            "ln_1.weight": p.norm_1[i, 0], "ln_1.bias": p.norm_1[i, 1],
            "attn.c_attn.weight": p.qkv[i].reshape(w, -1), "attn.c_attn.bias": p.qkv_bias[i].flatten(),
            "attn.c_proj.weight": p.out[i].reshape(w, w), "attn.c_proj.bias": p.out_bias[i],
            "ln_2.weight": p.norm_2[i, 0], "ln_2.bias": p.norm_2[i, 1],
            "mlp.c_fc.weight": p.up[i], "mlp.c_fc.bias": p.up_bias[i],
            "mlp.c_proj.weight": p.down[i], "mlp.c_proj.bias": p.down_bias[i],
        }  # fmt: skip
        state |= {f"h.{i}.{name}": weight for name, weight in of_block.items()}
    model.load_state_dict(state)
    return model


class GPT2Learner(nn.Module):
    """GPT2Model between a linear read-in of the tokens and a scalar read-out at the query."""

    def __init__(self, params: GPTParams) -> None:
        super().__init__()
        self.gpt2 = gpt2_model(params)
        d, w = params.read_in.shape[1:]
        self.read_in, self.read_out = nn.Linear(d, w, bias=False), nn.Linear(w, 1, bias=False)
        with torch.no_grad():
            self.read_in.weight.copy_(params.read_in[0].T)
            self.read_out.weight.copy_(params.read_out)

    def forward(self, prompts: Dense) -> Tensor:
        tokens = torch.cat([prompts.context, prompts.query[:, None]], dim=1)
        states = self.gpt2(inputs_embeds=self.read_in(tokens), use_cache=False).last_hidden_state
        return self.read_out(states[:, -1])[:, 0]


def batches(config: DeepConfig) -> Iterator[Dense]:
    """The prompts on which ``train_deep`` takes its steps, with their tokens written out."""
    patterns, tasks = draw_patterns(config.patterns, config.seed), task_table([config.tasks])
    for step in count():
        lengths = (config.min_context, config.prompts.n_context + 1)
        l = int(torch.randint(*lengths, (), generator=generator(0, "context length", step)))
        rule, n = replace(config.prompts, n_context=l), config.batch_size
        codes = sample_prompts([rule], tasks, [config.seed], patterns.counts, n, "train", step)
        yield dense(codes, patterns)


def train_gpt2(learner: GPT2Learner, batches: Iterator[Dense], step_size: float, n: int) -> Tensor:
    """n steps of Adam on the hinge loss; returns the losses."""
    return take_steps(learner, torch.optim.Adam(learner.parameters(), lr=step_size), batches, n)


def configs_of(members: int, batch: int = BATCH) -> list[DeepConfig]:
    return [
        DeepConfig(tasks=uniform_cover(6, 3, seed), seed=seed, min_context=20, n_steps=STEPS, batch_size=batch)
        for seed in range(members)
    ]


def pair(benchmark: str, size: Size, config: DeepConfig, start: GPTParams, anew: bool = True) -> list[Case]:
    """One model and one seed of ``transformers``; unless it is made anew for each call, it trains on and on: the weights move."""
    learner = GPT2Learner(start)

    def theirs(anew: bool) -> Tensor:
        trained = GPT2Learner(start) if anew else learner
        return train_gpt2(trained, batches(config), config.step_size, config.n_steps)

    ours = Case(benchmark, "ours", size, UNIT, lambda: train_deep([config], start=start).losses[0], config.n_steps)
    first, other = beside(ours, {"transformers": lambda: theirs(True)}, TOLERANCE)
    return [first, other._replace(call=lambda: theirs(anew))]


def against(benchmark: str, size: Size, start: GPTParams) -> list[Case]:
    """Few steps at one batch size."""
    ours, theirs = pair(benchmark, size, configs_of(1, int(size.value))[0], start, anew=False)
    return [ours._replace(flop=counted(ours.call) / STEPS), theirs]


def whole_runs() -> list[Case]:
    """400 steps: the losses at the end, where rounding has led to another solution, are compared on the page."""
    config = DeepConfig(tasks=all_tasks(6), n_steps=WHOLE)
    return pair("GPT-2, whole run", ONE, config, initial_params([config]))


def cases() -> list[Case]:
    """At first at all batch sizes, and ten models at the published one; when settled."""
    configs = configs_of(MEMBERS)
    first, settled = initial_params(configs), train_deep([replace(configs[0], n_steps=SETTLED)]).params
    name, of_ten = "GPT-2, first steps", STEPS * MEMBERS
    found = [case for size in sizes("batch", BATCH) for case in against(name, size, select(first, [0]))]
    found += [Case(name, "ours, 10 models", ONE, UNIT, lambda: train_deep(configs, start=first), of_ten)]
    return found + against("GPT-2, settled", ONE, settled)
