"""nbval judges checked outputs by `tools.near`, not letter by letter: results of another processor differ in late digits."""

import warnings
from typing import Any

from nbval.plugin import IPyNbCell

from tools.near import near_outputs

letter_by_letter = IPyNbCell.compare_outputs


def compare_outputs(self: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
    if letter_by_letter(self, test, ref, skip_compare):
        return True
    if not near_outputs(ref, test):
        return False
    self.comparison_traceback = []
    warnings.warn(f"{self.nodeid}: numbers moved within their intervals", stacklevel=1)
    return True


IPyNbCell.compare_outputs = compare_outputs
