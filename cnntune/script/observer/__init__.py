"""Observes a training script from inside its process, and writes down what it saw.

The Python that runs the script may be another one than cnntune's (3.9 or later) with another
PyTorch (2.1 or later), so that this package imports the standard library and `torch` alone.
`site/sitecustomize.py` loads it, under a name of its own: its modules import each other relatively.
It adds nothing to the script's modules and tensors, draws no random number, and keeps no tensor
longer than a step.

`hooks` says which functions of torch are watched (by `replacing`), `losses`, `steps` and `data`
what is noted of them in `seen`, `kept` which batches are kept for experiments, `stopping` when the
script ends, `saves` where its files go; `places`, `tensors`, `graphs` and `models` are read by all.

A record is one JSON file per process: `events` in the order in which they happened, each with its
kind `k` and the number `n` of optimizer steps before it, and tables of optimizers, models,
parameters and places. `cnntune/script/record.py` says what each key holds.
"""

from __future__ import annotations

import atexit
import os
import time
from typing import Any

from .graphs import constant_factor
from .hooks import hook, hook_backward
from .kept import experiments
from .places import crash, framework, note_crash, place
from .replacing import HANDLES, UNDO, after, around, before
from .saves import (
    redirect_lightning,
    redirect_safetensors,
    redirect_saves,
    redirect_tensorboard,
    redirected,
)
from .seen import SEEN
from .stopping import at_exit, record
from .tensors import tensors_in

__all__ = [
    "HANDLES",
    "SEEN",
    "UNDO",
    "after",
    "around",
    "before",
    "begin_here",
    "constant_factor",
    "crash",
    "end_here",
    "framework",
    "hook_backward",
    "install",
    "note_crash",
    "place",
    "redirect_lightning",
    "redirect_safetensors",
    "redirect_saves",
    "redirect_tensorboard",
    "redirected",
    "tensors_in",
]


def install(torch: Any) -> None:
    """Put the hooks into torch; called once, right after its import."""
    hook(torch)
    redirect_saves(torch)
    atexit.register(at_exit)
    os.register_at_fork(after_in_child=SEEN.begin)


def begin_here(torch: Any) -> None:
    """Observe this process from here on: nothing is stopped, cut short, redirected or written."""
    SEEN.begin()
    SEEN.full = True
    SEEN.deadline = SEEN.written = float("inf")
    hook(torch)


def end_here(torch: Any) -> dict[str, Any]:
    """Remove all hooks, and return what was seen; with `torch`, after experiments on it."""
    SEEN.done = True
    for handle in HANDLES:
        handle.remove()
    HANDLES.clear()
    for owner, name, original in reversed(UNDO):
        if original is None:  # it was inherited
            delattr(owner, name)
        else:
            setattr(owner, name, original)
    UNDO.clear()
    if torch is not None:
        SEEN.experiments = experiments(torch, SEEN.deadline - time.time())
    document = record("ended")
    SEEN.begin()  # holds nothing of the user's any more
    SEEN.done = True
    return document
