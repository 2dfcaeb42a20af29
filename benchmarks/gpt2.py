"""The baseline for the GPT: the ``transformers`` package's GPT2Model, trained one seed at a time by autograd and Adam."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.module import Dense, dense, take_steps
from icl_lib.rng import generator
from icl_lib.softmax.deep import DeepConfig
from icl_lib.softmax.gpt import GPTParams
from icl_lib.softmax.patterns import draw_patterns
from icl_lib.softmax.prompts import sample_prompts, task_table


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


def train_gpt2(learner: GPT2Learner, batches: Iterator[Dense] | Sequence[Dense], step_size: float, n: int) -> Tensor:
    """n steps of Adam on the hinge loss; returns the losses."""
    optimizer = torch.optim.Adam(learner.parameters(), lr=step_size)
    return take_steps(learner, optimizer, batches, n)
