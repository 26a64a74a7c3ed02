"""Threads that a signal does not lock up."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from pt4al.base.console import signals_held


class Threads(ThreadPoolExecutor):
    """A pool of threads, used from the main thread, which signals come to.

    Its locks are Python code: an exception that a signal raises in the midst of one leaves it taken, and all
    threads, and whoever waits for them, would wait for ever. So signals are held there.
    """

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future:
        with signals_held():
            return super().submit(call, *args)

    def map(self, call: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """What `call` makes of each item, in order."""
        coming = deque([self.submit(call, item) for item in items])
        while coming:
            yield result(coming.popleft())


def result(future: Future) -> Any:
    """Of what was submitted to `Threads`."""
    while True:
        with signals_held():
            if future.cancelled() or wait([future], 0.1).done:
                return future.result()
