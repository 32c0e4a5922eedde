"""Ctrl-C and SIGTERM end a command wherever Python happens to be, and only while it runs."""

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

AGAIN_SECONDS = 0.01  # until an interrupt that Python dropped is raised again

_report_unraisable = sys.unraisablehook
_came = False


def catch() -> None:
    """End the command by KeyboardInterrupt on SIGTERM, as Ctrl-C does, and lose no Ctrl-C.

    Python prints and drops what is raised in a finalizer or in the callback of a weak reference; an
    interrupt that arrives there would otherwise be a traceback, and the command would not end.
    """
    global _report_unraisable, _came
    _came = False
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread receives signals
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, _stop)
    if sys.unraisablehook is not _unraisable:
        _report_unraisable, sys.unraisablehook = sys.unraisablehook, _unraisable


def came() -> bool:
    """Whether an interrupt has come; what it interrupts may raise an exception of its own."""
    return _came


def ignore() -> None:
    """Keep the exit code of a command whose result is written."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    global _came
    _came = True
    raise KeyboardInterrupt


def _unraisable(dropped: "sys.UnraisableHookArgs", /) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
    else:
        _report_unraisable(dropped)
