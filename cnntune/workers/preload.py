"""Imported only by the server that workers are forked from: all modules that they need.

Imports take seconds, during which the server does not notice that its coordinator was killed. So a
thread watches meanwhile; a server must not have a second thread when it forks. The coordinator
passes its process id: one that was killed at once has left the server another parent.
"""

import gc
import os
import sys
import threading
from types import TracebackType

from cnntune.workers.processes import COORDINATOR, ignore_interrupts

CHECK_SECONDS = 0.1


def _report(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A worker whose coordinator was killed while it began ends without a traceback."""
    if kind is not EOFError:
        sys.__excepthook__(kind, error, where)


ignore_interrupts()
sys.excepthook = _report
_coordinator = int(os.environ.get(COORDINATOR) or os.getppid())
_done = threading.Event()


def _watch() -> None:
    while not _done.wait(CHECK_SECONDS):
        if os.getppid() != _coordinator:
            os._exit(1)


_watcher = threading.Thread(target=_watch)
_watcher.start()
gc.disable()  # it takes 0.15 s to find no garbage in what is imported
import cnntune.workers.worker  # noqa: E402, F401

gc.freeze()  # so that collections in workers do not copy the memory that they share
gc.enable()

_done.set()
_watcher.join()
