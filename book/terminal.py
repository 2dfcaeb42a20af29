"""How a command behaves in its terminal: any text can be printed, a closed pipe ends it quietly, and it cleans up when it is ended."""

import contextlib
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

from icl_lib.paths import own_temporary
from icl_lib.validate import ConfigError

P = ParamSpec("P")
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
