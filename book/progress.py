"""How far a run is, on one line that rewrites itself; on anything but a terminal, a line now and then."""

import contextlib
import sys
import threading
import time
from types import TracebackType

EVERY = 30.0  # seconds between two lines where they cannot rewrite themselves


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Progress:
    """Prints chapter, cell i of n, the time in it and since the start while the ``with`` block runs; call it as a cell starts."""

    def __init__(self, name: str, cells: int, expected: float | None = None) -> None:
        self.name, self.cells, self.cell = name, cells, 0
        self.of = f" (about {clock(expected)} at the book's setting)" if expected else ""
        self.started = self.cell_started = time.monotonic()
        self.done, self.live = threading.Event(), sys.stdout.isatty()
        self.ticker = threading.Thread(target=self._tick, daemon=True)

    def __call__(self) -> None:
        self.cell += 1
        self.cell_started = time.monotonic()

    def line(self) -> str:
        """The line as it reads now."""
        now = time.monotonic()
        at = f"cell {self.cell} of {self.cells} for {clock(now - self.cell_started)}" if self.cell else "starting"
        return f"{self.name}: {at}, {clock(now - self.started)} in all{self.of}"

    def _tick(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more: the main thread will notice
            while not self.done.wait(0.5 if self.live else EVERY):
                print(f"\r\x1b[K{self.line()}" if self.live else self.line(), end="" if self.live else "\n", flush=True)

    def __enter__(self) -> "Progress":
        self.ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.done.set()
        self.ticker.join()
        if self.live:
            print("\r\x1b[K", end="", flush=True)
