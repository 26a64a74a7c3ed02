"""How scripts end: one line and a proper exit status, or a traceback only where the mistake is
ours."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UserError(Exception):
    """Something the user can mend: bad input, a missing step, a full disk. Printed as one line,
    exit status 2."""


class Waiting(Exception):
    """An annotator has to label images before the run can go on. Printed as one line, exit status 3."""


class Stopped(BaseException):
    """A signal arrived. Not an `Exception`, so that nothing on the way catches it by accident."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Parser(argparse.ArgumentParser):
    """The command line of a program, its header as help. What is wrong is one line, without the usage."""

    def __init__(self, header: str | None = None, **others: Any) -> None:
        super().__init__(description=header, formatter_class=argparse.RawDescriptionHelpFormatter, **others)

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file, flush=True)  # argparse does not mind where it fails

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def positive(text: str) -> int:
    """A whole number above 0: a type of flags."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def fail(message: str) -> None:
    """Print `SCRIPT: error: MESSAGE` on standard error as one line."""
    text = " ".join(printable(str(message)).split())
    print(f"{Path(sys.argv[0]).name}: error: {text}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Without characters that steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def say(text: object) -> None:
    """Print a line, such as a path, at once."""
    print(printable(str(text)), flush=True)


def on_signal(number: int, frame: object) -> None:
    ignore_signals()  # the first signal stops the run; a second must not cut the saving
    if not Hold.depth:
        raise Stopped(number)
    Hold.arrived = number


class Hold:
    """State of `signals_held`: blocks that are being run, and the signal that arrived."""

    depth = 0
    arrived: int | None = None


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let a signal that arrives in the block stop the run at its end, if the main thread runs it."""
    Hold.depth += 1
    try:
        yield
    finally:
        Hold.depth -= 1
        if Hold.arrived is not None and not Hold.depth:
            number, Hold.arrived = Hold.arrived, None
            raise Stopped(number)


def stop_again(dropped: Any) -> None:
    """As sys.unraisablehook: Python drops what is raised in a destructor or a callback. The signal that was
    answered there is answered again, a little later."""
    if not isinstance(dropped.exc_value, Stopped):
        return sys.__unraisablehook__(dropped)
    number = dropped.exc_value.number
    signal.signal(signal.SIGALRM, lambda _, frame: on_signal(number, frame))
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def ignore_signals() -> None:
    """Let further signals do nothing. SIG_IGN would make Python complain of one that is on its way."""
    signal.setitimer(signal.ITIMER_REAL, 0)  # of `stop_again`
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, torch or one of its libraries says so; they share no exception."""
    told = (
        "OutOfMemoryError",
        "MemoryError",
        "bad_alloc",
        "can't allocate memory",
        "could not create a memory",
    )
    return any(text in f"{type(error).__name__}: {error}" for text in told)


def open_streams() -> None:
    """Let printing work whatever standard output is: closed, or of an encoding that lacks a class
    name's letters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, it stays open to the end
        getattr(sys, name).reconfigure(errors="backslashreplace")


def run_script(main: Callable[[], None]) -> None:
    """Call `main` and end the process with its exit status: 0, 2 (bad input), 3 (labels are awaited),
    128 + the number of the signal that stopped it (SIGPIPE where nobody reads the output any more)."""
    open_streams()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, on_signal)
    sys.unraisablehook = stop_again
    try:
        status = status_of(main)
    except BrokenPipeError:  # also from what is said of an error
        discard_output()
        status = 128 + signal.SIGPIPE
    leave(status)


def status_of(main: Callable[[], None]) -> int:
    """Call `main`, say how it ended, and return the exit status."""
    status = 0
    try:
        try:
            try:
                main()
            finally:
                ignore_signals()  # there is nothing left to stop
        except Waiting as wait:
            if os.environ.get("RANK", "0") == "0":
                say(wait)
            status = 3
        except SystemExit as end:  # after --help
            status = end.code or 0
        sys.stdout.flush()
    except UserError as error:
        fail(str(error))
        status = 2
    except Stopped as stop:
        again = "the same command without --restart" if "--restart" in sys.argv else "the same command"
        print(f"\nstopped by {stop}: {again} resumes from here", file=sys.stderr, flush=True)
        status = 128 + stop.number
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        fail(
            f"{error.strerror or error}: {error.filename or 'while writing'}; what was saved before is whole"
        )
        status = 2
    except (MemoryError, RuntimeError) as error:
        if "can't start new thread" in str(error):
            fail(
                "no thread can be started: raise the limit of processes (ulimit -u), or end others; with "
                "--threads 1 fewer are needed"
            )
            leave(2)
        if not is_out_of_memory(error):
            raise
        fail(
            "out of memory: lower --eval-batch-size or --width, or free memory; what was saved before is "
            "whole"
        )
        status = 2
    return status


def discard_output() -> None:
    """Let what is left to print go nowhere: at its end Python would fail at it once more."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def leave(status: int) -> None:
    """End the process. Under torchrun without taking the interpreter down: the threads of a process
    group can abort that (gloo of torch 2.14, 1 of 30 runs on a busy machine), and destroying the
    group first can hang (torch 2.4)."""
    try:
        sys.stdout.flush()
    except OSError:  # the status says already that something failed
        discard_output()
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(status)
    sys.stderr.flush()
    os._exit(status)
