"""How scripts end: one line and a proper exit status, or a traceback only where the mistake is
ours."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path


class UserError(Exception):
    """Something the user can mend: bad input, a missing step, a full disk. Printed as one line,
    exit status 2."""


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived. Not an `Exception`, so that nothing on the way catches it by
    accident."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def fail(message: str) -> None:
    """Print `SCRIPT: error: MESSAGE` on standard error as one line."""
    text = " ".join(str(message).split())
    print(f"{Path(sys.argv[0]).name}: error: {text}", file=sys.stderr, flush=True)


def on_signal(number: int, frame: object) -> None:
    ignore_signals()  # the first signal stops the run; a second must not cut the saving
    raise Stopped(number)


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


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


def run_script(main: Callable[[], None]) -> None:
    """Call `main` and turn its end into an exit status: 0, 2 (bad input), 130 (SIGINT) or 143
    (SIGTERM)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        main()
    except UserError as error:
        fail(str(error))
        status = 2
    except Stopped as stop:
        print(
            f"\nstopped by {stop}: the same command goes on from here", file=sys.stderr, flush=True
        )
        status = 128 + stop.number
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        fail(
            f"{error.strerror or error}: {error.filename or 'while writing'}; what was saved before is whole"
        )
        status = 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fail(
            "out of memory: lower --eval-batch-size or --width, or free memory; what was saved before is whole"
        )
        status = 2
    else:
        status = 0
    sys.stdout.flush()
    sys.exit(status)
