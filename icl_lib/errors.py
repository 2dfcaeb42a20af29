"""What goes wrong in a computation, wherever it is computed; a refused value is ``validate.ConfigError``."""

from collections.abc import Sequence


class Diverged(RuntimeError):
    """A training or a flow left the region where it makes sense; the message names where, and the step size.

    Attributes:
        members: of a trained ensemble, all whose loss is not finite or explodes at this step.
        step: the number of steps taken before.
    """

    def __init__(self, message: str, members: Sequence[int] = (), step: int = 0) -> None:
        super().__init__(message)
        self.members, self.step = tuple(members), step
