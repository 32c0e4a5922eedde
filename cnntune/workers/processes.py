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
from contextlib import contextmanager, suppress
from multiprocessing import (
    connection,
    forkserver,
    get_context,
    parent_process,
    resource_tracker,
)
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from cnntune.errors import StudyError
from cnntune.machine.clock import NEVER, Deadline, OutOfTimeError
from cnntune.machine.forks import FORKS
from cnntune.user_code.borders import explained

THREADS = "1"  # that a worker's libraries load with; workers share the cores among them
PARENT_EXIT_SECONDS = 1.0  # between the ends of a killed process's pipes; they close one by one
_preloaded = ["cnntune.workers.preload"]  # what the server imports
_handed = {"OMP_NUM_THREADS": THREADS}  # what workers find in their environment beside ours
_last_acts: list[Callable[[], object]] = []  # of a process whose coordinator has ended
COORDINATOR = "CNNTUNE_COORDINATOR"  # in the server's environment: the process that started it


def prepare(*, torch: bool = True) -> None:
    """Let the server import what workers need, while this process does other work.

    Without `torch` it imports nothing, and workers have our own environment: they run commands.

    Raises:
        StudyError: where it cannot be started.
    """
    if not torch:
        _preloaded.clear()
        _handed.clear()
    if FORKS:
        context()
        with _starting():
            forkserver.ensure_running()


def start(function: str, *arguments: Any) -> tuple[BaseProcess, Connection]:
    """A process that calls `module:function` with a pipe and arguments; our end of the pipe.

    Raises:
        StudyError: where it cannot be started.
    """
    begun = context()
    ours, theirs = begun.Pipe()
    process = begun.Process(target=_live, args=(function, theirs, arguments))  # type: ignore[attr-defined]
    with _starting():
        process.start()
    theirs.close()
    return process, ours


def call(function: str, *arguments: Any) -> Any:
    """What `module:function` returns in a process of its own, which has torch loaded.

    Raises:
        CnntuneError: what the function raises of that kind; its other errors become RuntimeError.
        StudyError: where the process is killed.
    """
    with _answers("answer", function, arguments) as pipe:
        result, error = pipe.recv()
    if error is not None:
        raise error
    return result


def follow(function: str, *arguments: Any, deadline: Deadline = NEVER) -> Iterator[Any]:
    """What the iterator `module:function` yields in a process of its own, as it yields it.

    Raises:
        OutOfTimeError: at the deadline; the process is ended.
        CnntuneError: what the iterator raises of that kind; its other errors become RuntimeError.
        StudyError: where the process is killed.
    """
    with _answers("relay", function, arguments) as pipe:
        while not deadline.passed and pipe.poll(deadline.seconds_left):
            more, value, error = pipe.recv()
            if error is not None:
                raise error
            if not more:
                return
            yield value
        raise OutOfTimeError


@contextmanager
def _answers(how: str, function: str, arguments: tuple[Any, ...]) -> Iterator[Connection]:
    """The pipe to a process of its own, in which `answer` or `relay` runs the function."""
    process, pipe = start(f"{__name__}:{how}", function, arguments)
    try:
        yield pipe
    except (EOFError, ConnectionResetError):
        process.join()
        raise StudyError(f"the process for {function} died (exit {process.exitcode})") from None
    finally:
        process.kill()
        pipe.close()


def relay(pipe: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    """Send `(True, value, None)` for each value of the iterator, and at its end `(False, ...)`."""
    try:
        for value in _found(function)(*arguments):
            pipe.send((True, value, None))
        pipe.send((False, None, None))
    except (Exception, SystemExit) as error:
        _reply(pipe, (False, None, _sendable(error)))


def answer(pipe: Connection, function: str, arguments: tuple[Any, ...]) -> None:
    """Send `(result, None)` of the function, or `(None, error)`."""
    try:
        pipe.send((_found(function)(*arguments), None))
    except (Exception, SystemExit) as error:
        _reply(pipe, (None, _sendable(error)))


def _reply(pipe: Connection, error: object) -> None:
    """Send an error, perhaps that of sending the result; to nobody if the other end has gone."""
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(error)


def _sendable(error: BaseException) -> Exception:
    """An error in our words; a bug may not survive the pipe, and becomes its traceback."""
    return explained(error) or RuntimeError("".join(traceback.format_exception(error)))


def _found(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def context() -> BaseContext:
    """What begins processes that nothing was computed in before."""
    if not FORKS:
        return get_context("spawn")
    server = get_context("forkserver")
    server.set_forkserver_preload(_preloaded)
    return server


@contextmanager
def _starting() -> Iterator[None]:
    """A block that starts a server or a worker.

    Raises:
        StudyError: where the system refuses, or kills the server meanwhile.
    """
    try:
        with _inherited(), _interrupts_held():
            yield
    except (EOFError, OSError) as error:
        reason = str(error) or "it ended at once"
        raise StudyError(
            f"a worker process could not be started ({reason}); the system kills processes"
            " when memory runs out; no results were lost"
        ) from error


@contextmanager
def _inherited() -> Iterator[None]:
    """What a worker finds in its environment: the threads that torch loads with, and us."""
    handed = {**_handed, COORDINATOR: str(os.getpid())}
    before = {name: os.environ.get(name) for name in handed}
    os.environ.update(handed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C within the block reaches us at its end, and never the process that is started.

    Ctrl-C reaches every process of the terminal, and it is the coordinator's to handle. A process
    begins with the signals blocked that its parent blocks, until it can ignore them itself.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # unblocks the signal once it has started its own process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the coordinator: what the server and each worker do first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _live(function: str, pipe: Connection, arguments: tuple[Any, ...]) -> None:
    """Call a function, and end with the coordinator, however it ends.

    The function comes as a name: its module imports torch, which takes seconds, and a worker whose
    coordinator is killed meanwhile must not stay behind.
    """
    ignore_interrupts()
    end_with_parent()
    sys.stdout = sys.stderr  # stdout carries results, and what user code prints is none
    try:
        _found(function)(pipe, *arguments)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        parent = parent_process()
        if parent is not None:
            parent.join(PARENT_EXIT_SECONDS)
        if parent is None or parent.is_alive():
            raise
        # A coordinator that was killed reads no more, and that is no error of ours.


def end_with_parent() -> None:
    """Let this process end when the one that began it does, however it ends."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def before_end(act: Callable[[], object]) -> None:
    """Let a worker do this, too, when its coordinator ends, however that ends."""
    _last_acts.append(act)


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        for act in _last_acts:
            with suppress(Exception):
                act()
        os._exit(1)
