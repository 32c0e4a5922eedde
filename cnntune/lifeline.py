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
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, forkserver, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from cnntune.borders import explained
from cnntune.errors import StudyError

FORKS = sys.platform == "linux"
THREADS = "1"  # that a worker's libraries load with; workers share the cores among them


def prepare() -> None:
    """Let the server import what workers need, while this process has other things to do."""
    if FORKS:
        _context()
        with _inherited():
            forkserver.ensure_running()


def start(function: str, *arguments: Any) -> tuple[BaseProcess, Connection]:
    """A process that calls `module:function` with a pipe and arguments; our end of the pipe."""
    context = _context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_live, args=(function, theirs, arguments))  # type: ignore[attr-defined]
    with _inherited():
        process.start()
    theirs.close()
    return process, ours


def call(function: str, *arguments: Any) -> Any:
    """What `module:function` returns in a process of its own, which has torch loaded.

    Raises:
        CnntuneError: what the function raises of that kind; its other errors become RuntimeError.
        StudyError: where the process is killed.
    """
    process, pipe = start(f"{__name__}:answer", function, arguments)
    try:
        result, error = pipe.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise StudyError(f"the process for {function} died (exit {process.exitcode})") from None
    finally:
        process.kill()
        pipe.close()
    if error is not None:
        raise error
    return result


def answer(pipe: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    """Send `(result, None)` of the function, or `(None, error)`."""
    try:
        pipe.send((_found(function)(*arguments), None))
    except (Exception, SystemExit) as error:
        bug = RuntimeError("".join(traceback.format_exception(error)))
        pipe.send((None, explained(error) or bug))


def _found(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


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


def _live(function: str, pipe: Connection, arguments: tuple[Any, ...]) -> None:
    """Call a function, and end with the coordinator, however it ends.

    The function comes as a name: its module imports torch, which takes seconds, and a worker whose
    coordinator is killed meanwhile must not stay behind.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # stdout carries results, and what own code prints is none
    _found(function)(pipe, *arguments)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
