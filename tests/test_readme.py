"""The README's example runs and says what the book says."""

import re
from pathlib import Path


def test_the_example(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), flags=re.S)
    scope: dict = {}
    exec(code, scope)
    table = scope["evaluate"](scope["models"], scope["tasks"], scope["PromptConfig"](reading="exact"), 2_000)
    assert len(table) == 10 and table["error"].max() < 0.01
    assert "attention" in capsys.readouterr().out
