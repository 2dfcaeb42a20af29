"""How a command behaves in its terminal: any text can be printed, a closed pipe ends it quietly, it cleans up when it is ended, and a
run says how far it is.
"""

import contextlib
import functools
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

from icl_lib.paths import own_temporary
from icl_lib.validate import ConfigError

P = ParamSpec("P")
EVERY = 30.0  # seconds between two lines where they cannot rewrite themselves
CLOSED_PIPE = 128 + signal.SIGPIPE  # the exit status of other programs then


class Ended(KeyboardInterrupt):
    """A signal asked the process to end; what Ctrl-C cleans up is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """While the block runs, TERM and HUP raise `Ended`; a signal that is ignored (nohup) stays so."""

    def end(number: int, frame: Any) -> NoReturn:
        for other in before:  # a closing terminal sends HUP twice: the second one must not stop the cleaning up
            signal.signal(other, signal.SIG_IGN)
        raise Ended(number)

    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_anything() -> None:
    """Let stdout show "?" for a letter that the terminal's encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def need_no_home() -> None:
    """Give matplotlib, here and in kernels, a folder for what it knows of fonts where there is no home to keep it in.

    Raises:
        OSError: if there is no temporary folder either.
    """
    if "MPLCONFIGDIR" not in os.environ and not all(
        map(_usable, (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")))
    ):
        os.environ["MPLCONFIGDIR"] = str(own_temporary() / "matplotlib")


def _usable(place: tuple[str, str]) -> bool:
    """Whether something can be kept in the folder that a variable names, by default one in the home."""
    variable, name = place
    try:
        folder = Path(os.environ.get(variable) or Path.home() / name)
    except RuntimeError:  # no home, and nobody knows this user
        return False
    while not os.path.exists(folder):  # False, too, for what lies in a folder that cannot be entered
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def command(main: Callable[P, int | None]) -> Callable[P, int]:
    """The main function of a command, to be called once in a process; returns its exit status."""

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        print_anything()
        try:
            need_no_home()
        except OSError as error:
            print(f"no folder for temporary files: {error}", file=sys.stderr)
            return 1
        try:
            with ended_like_ctrl_c():
                status = main(*args, **kwargs)
            sys.stdout.flush()
            return int(status or 0)
        except BrokenPipeError:  # `| head`: whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # takes what is still to be flushed
            return CLOSED_PIPE
        except ConfigError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt as error:
            return getattr(error, "status", 130)

    return run


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

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.ticker.join()
        if self.live:
            print("\r\x1b[K", end="", flush=True)
