"""One function over many values, on several cores.

The processes are forks of this one where they can be, as those of `DataLoader` are: they begin at
once and share all that is in memory. They compute on the CPU only: a GPU context does not survive
a fork.
"""

import functools
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

import torch

from cnntune.errors import DeviceError
from cnntune.machine.forks import FORKS, forking
from cnntune.workers import processes

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def spread(
    function: Callable[[T], R], *, processes: int
) -> Iterator[Callable[[Iterable[T]], Iterator[R]]]:
    """A `map` of `function` over many values, on `processes` processes of one thread each.

    Results come in the order of the values; values, results and exceptions are sent, and so is the
    function where an accelerator is there. With one process, and where the system has no safe fork,
    all happens in this one. Leaving the block ends the processes at once.

    Raises:
        DeviceError: inside the block, where a process dies.
    """
    if processes == 1 or not FORKS:
        yield functools.partial(map, function)
        return
    before = set(active_children())
    pool = _pool(function, processes)
    try:
        yield functools.partial(_results, pool)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - before:
            process.kill()
            process.join()


def _pool(function: Callable[[Any], Any], number: int) -> ProcessPoolExecutor:
    """Forks of this process, or of the server of `processes` where torch sees an accelerator.

    There the first backward pass starts a thread for each device, even if all tensors are on the
    CPU, and none can be computed in a fork any more.
    """
    if not torch.accelerator.is_available():
        return ProcessPoolExecutor(number, get_context("fork"), _begin, (function,))
    processes.prepare()
    # As bytes: torch would send tensors through /dev/shm, which is small in containers.
    sent = pickle.dumps(function)
    return ProcessPoolExecutor(number, processes.context(), _begin_apart, (sent,))


def _results(pool: ProcessPoolExecutor, values: Iterable[Any]) -> Iterator[Any]:
    try:
        with forking():
            results = pool.map(_call, values)
        yield from results
    except BrokenProcessPool:
        raise DeviceError(
            "a training process was killed; the system kills processes when memory runs out"
        ) from None


_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    """A process begins: it ends with us, however we end; Ctrl-C is ours to handle."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # By which the pool ends what is left of it; our handler would end it with a traceback.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    processes.end_with_parent()
    torch.set_num_threads(1)


def _begin_apart(sent: bytes) -> None:
    _begin(pickle.loads(sent))


def _call(value: Any) -> Any:
    return _function(value)
