"""The module baseline is the same learner, trained on the same prompts; nothing here is timed."""

import pandas as pd
import pytest
import torch

from benchmarks import bound, module, regression, results
from icl_lib.mean_field.train_features import Trainer
from icl_lib.mean_field.transformer import step
from icl_lib.softmax.model import forward
from icl_lib.softmax.prompts import sample_prompts, task_table
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.train import TrainConfig, initial_state, stacked_patterns, train_steps

CONFIG = TrainConfig(tasks=uniform_cover(6, 3, 4), seed=4, batch_size=32)
N_STEPS = 20


def test_module_has_our_outputs() -> None:
    """With copied weights, before and after training: outputs of either sign, equal to 1e-5."""
    patterns = stacked_patterns([CONFIG])
    codes = sample_prompts([CONFIG.prompts], task_table([CONFIG.tasks]), [9], patterns.counts, 200, "check")
    tokens = module.dense(codes, patterns._replace(basis=patterns.basis[0]))
    torch.testing.assert_close(tokens.context.mT, codes.dense(patterns)[0, :, :, :-1])
    torch.testing.assert_close(tokens.query, codes.dense(patterns)[0, :, :, -1])
    start = initial_state([CONFIG])
    for state in (start, train_steps([CONFIG], start, 100)):
        theirs = module.ModuleLearner(state.params)(tokens)
        ours = forward(state.params, patterns, codes).output[0]
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    assert ours.min() < -0.5 < 0.5 < ours.max()


def test_module_trains_as_we_do() -> None:
    """Same prompts, same gradients, same step: the losses stay together."""
    start = initial_state([CONFIG])
    learner = module.ModuleLearner(start.params)
    losses = module.train_module(learner, module.batches(CONFIG), CONFIG.step_size, N_STEPS)
    state = train_steps([CONFIG], start, N_STEPS)
    torch.testing.assert_close(losses, state.losses[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(learner.attention.in_proj_weight.detach(), state.params.w_qkv[0], rtol=0, atol=1e-4)


def test_counted_products_are_those_of_the_step() -> None:
    """The flop count equals that of torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        train_steps([CONFIG], initial_state([CONFIG]), 3)
    assert counter.get_total_flops() == 3 * bound.flops(CONFIG)


@pytest.mark.skipif(not results.FILE.is_file(), reason="no results.csv: run make bench")
def test_results_can_be_read() -> None:
    table = results.load()
    assert list(table)[:6] == results.COLUMNS and (table["value"] > 0).all()
    assert set(table.loc[table["benchmark"] == "ensemble size", "members"]) == {1, 2, 5, 10, 20, 40}
    assert set(table.loc[table["benchmark"] == "batch size", "batch"]) == {32, 64, 128, 256, 512}
    gain = results.ratio(results.values(table, "training", "modules"), results.values(table, "training", "ensemble"))
    assert gain["low"] <= gain["median"] <= gain["high"]
    assert set(results.bounds(table)) == {"least_time", "share"}


def test_sweeps_are_compared_block_by_block() -> None:
    """Efficiency: one worker's time over twice that of two, the median over blocks; what a run costs: all but its cells."""
    rows = [
        ("run", "L5", "before the first cell", 2),
        ("run", "L5", "cells", 10),
        ("run", "L5", "after the last cell", 3),
    ]
    rows += [
        ("sweep", "", f"{n} worker{'s' * (n > 1)}", s) for n, s in [(1, 8), (2, 5), (1, 9), (2, 5), (1, 8), (2, 4)]
    ]
    rows += [("machine", "", "1 process", 9), ("machine", "", "2 processes", 10)]
    table = pd.DataFrame([*rows, ("resume", "", "1 000 points", 3)], columns=["kind", "of", "case", "seconds"])
    found = results.rerun_summary(table).set_index("measured")
    assert found.loc["icl run L5: all else", "ratio"] == 0.5
    assert found.loc["sweep of 64 points, 2 workers", ["seconds", "ratio", "reached"]].tolist() == [14, 0.9, True]
    assert found.loc["two processes that only compute", "ratio"] == 0.9
    assert not found.loc["resuming 1 000 finished points", "reached"]


def test_regression_module_is_our_transformer() -> None:
    """Loss and gradients of the module that Paper K's training is timed against."""
    trainer = Trainer(regression.config())
    model, prompts = trainer.initial().model, trainer.source.draw(4, "prompts")
    ours, theirs = step("sigmoid", model, [prompts]), regression.Module(model)
    loss = regression.gradient(theirs, prompts)
    assert loss == pytest.approx(float(ours.losses.mean()), rel=1e-5)
    for weight, velocity in (
        (theirs.inner.weight, ours.w[0] / regression.N),
        (theirs.outer.weight, ours.a[0].T),  # the module's output weights have the masses in them
        (theirs.attention, ours.attention[0]),
    ):
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad.double(), -velocity, rtol=1e-3, atol=1e-5)
