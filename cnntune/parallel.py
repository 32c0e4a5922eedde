"""One function over many values, on several cores, with all that is in memory.

The processes are forks of this one, as those of `DataLoader` are: they begin at once and share the
images. That is for the CPU alone, since a GPU does not survive a fork.
"""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from typing import Any, TypeVar

import torch

from cnntune.errors import DeviceError

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def spread(
    function: Callable[[T], R], *, processes: int
) -> Iterator[Callable[[Iterable[T]], Iterator[R]]]:
    """`function` as one of many values, on so many processes of one thread each.

    Results come in the order of the values; values, results and exceptions are sent. With one
    process, and where the system has no safe fork, all happens in this one. Leaving the block ends
    the processes at once.

    Raises:
        DeviceError: inside the block, where a process dies.
    """
    if processes == 1 or sys.platform != "linux":
        yield functools.partial(map, function)
        return
    before = set(active_children())
    pool = ProcessPoolExecutor(processes, get_context("fork"), _begin, (function,))
    try:
        yield functools.partial(_results, pool)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - before:
            process.kill()
            process.join()


def _results(pool: ProcessPoolExecutor, values: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from pool.map(_call, values)
    except BrokenProcessPool:
        raise DeviceError(
            "a process that trained was killed; the system does so when memory runs out"
        ) from None


_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    """A forked process: it ends with us, however we end; Ctrl-C is ours to handle."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _call(value: Any) -> Any:
    return _function(value)
