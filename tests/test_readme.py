"""The README's examples run and say what the book says."""

import re
from pathlib import Path


def test_the_examples(capsys):
    softmax, mean_field = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), flags=re.S)
    scope: dict = {}
    exec(softmax, scope)
    table = scope["evaluate"](scope["models"], scope["tasks"], scope["PromptConfig"](reading="exact"), 2_000)
    assert len(table) == 10 and table["error"].max() < 0.01
    assert "attention" in capsys.readouterr().out
    exec(mean_field, scope)
    losses = scope["history"]["loss"]
    assert losses.is_monotonic_decreasing and losses.iloc[-1] < losses.iloc[0] / 2
