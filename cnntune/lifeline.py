"""How a worker process begins and ends.

On Linux workers are forked from a server process that has imported all they need, but computed
nothing and seen no GPU: a worker begins in a twentieth of a second instead of seconds
(`docs/performance.md`). Elsewhere system libraries do not survive a fork, and each worker is a
fresh interpreter.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, forkserver, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

FORKS = sys.platform == "linux"
THREADS = "1"  # that a worker's libraries load with; workers share the cores among them


def prepare() -> None:
    """Let the server import what workers need, while this process has other things to do."""
    if FORKS:
        _context()
        with _inherited():
            forkserver.ensure_running()


def start(module: str, device: str) -> tuple[BaseProcess, Connection]:
    """A process that runs `serve(pipe, device)` of a module, and our end of its pipe."""
    context = _context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_live, args=(module, theirs, device))  # type: ignore[attr-defined]
    with _inherited():
        process.start()
    theirs.close()
    return process, ours


def _context() -> BaseContext:
    if not FORKS:
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["cnntune.preload"])
    return context


@contextmanager
def _inherited() -> Iterator[None]:
    """What a worker takes from us at its start: no SIGINT, and the threads that torch loads with.

    Ctrl-C reaches every process of the terminal, and it is the coordinator's to handle.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = THREADS
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
        if main:
            signal.signal(signal.SIGINT, handler)


def _live(module: str, pipe: Connection, device: str) -> None:
    """Run `serve(pipe, device)` of a module, and end with the coordinator, however it ends.

    The module comes as a name: it imports torch, which takes seconds, and a worker whose
    coordinator is killed meanwhile must not stay behind.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    importlib.import_module(module).serve(pipe, device)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
