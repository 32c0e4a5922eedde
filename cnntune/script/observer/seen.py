"""What was seen in this process, and the guard around each hook."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

DEEP_FIRST = 10  # steps, backward passes and forward passes that are looked at closely at first
DEEP_EVERY = 10  # and then one in so many: what costs is every parameter at every step
MAX_EVENTS = 60_000  # then the record ends, and says so


class Numbers:
    """Numbers for objects, which an address is not: it is used again after an object's death."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, int]] = {}
        self.next = 0

    def of(self, thing: Any) -> int:
        """The number of an object."""
        found = self.known.get(id(thing))
        if found is not None and found[0]() is thing:
            return found[1]
        self.next += 1
        self.known[id(thing)] = (weakref.ref(thing), self.next)
        return self.next


class Optimizer:
    """What is known of one optimizer."""

    def __init__(self, number: int, name: str, at: str, born: int) -> None:
        self.number, self.name, self.at, self.born = number, name, at, born
        self.steps = 0
        self.cleared = True  # since its last step
        self.results: list[dict[str, Any]] = []  # backward passes since it was cleared
        self.lost: list[dict[str, Any]] = []  # those that were cleared before it ended its step
        self.lost_before_step = 0
        self.made: dict[str, Any] = {}  # the event
        self.event: dict[str, Any] = {}
        self.before: list[tuple[Any, Any]] = []

    def clear(self) -> None:
        """Its gradients are None or 0 from here on."""
        self.cleared = True
        self.lost += self.results
        self.results = []


class Kept:
    """The first training batches of a model, for experiments on a copy of it at the end."""

    def __init__(self) -> None:
        self.model: Any = None  # once a loss was computed from its result alone
        self.optimizer: Any = None  # number, class and settings of its optimizer, where torch's
        self.state: list[Any] = []  # its first weights and buffers
        self.train = True
        self.examples: list[dict[str, Any]] = []
        self.bytes = 0
        self.pending: dict[str, Any] | None = None  # a forward pass whose loss is still to come
        self.lines: list[str] = []  # of the losses
        self.closed = False


class Samples:
    """The first batches of training and validation, for probes of a copy of the model."""

    def __init__(self) -> None:
        self.models: dict[int, Any] = {}  # with gradients: number, model
        self.entries: list[dict[str, Any]] = []
        self.counts: dict[tuple[int, bool], int] = {}
        self.bytes = 0
        self.last: dict[str, Any] | None = None  # that of the forward pass at hand
        self.batch: list[Any] = []  # the tensors that a loader gave last
        self.size: Any = None  # the batch size of that loader


class Seen:
    """All that was seen in this process."""

    def __init__(self) -> None:
        self.steps_wanted = int(os.environ.get("CNNTUNE_STEPS") or 100)
        self.full = bool(os.environ.get("CNNTUNE_FULL"))
        self.deadline = float(os.environ.get("CNNTUNE_DEADLINE") or "inf")
        self.folder = self.folder_before = os.environ.get("CNNTUNE_OUT") or "."
        self.begin()

    def begin(self) -> None:
        """Nothing was seen yet; also in a fork, which is a process of its own."""
        self.pid, self.thread = os.getpid(), threading.get_ident()
        self.started = time.time()
        self.written = self.started
        self.stepped_first = self.started  # the time of the first step
        self.events: list[dict[str, Any]] = []
        self.errors: dict[str, str] = {}
        self.numbers = Numbers()
        self.optimizers: dict[int, Optimizer] = {}
        self.living: dict[int, Any] = {}  # number of an optimizer: weak reference
        self.models: dict[int, dict[str, Any]] = {}
        self.roots: dict[int, Any] = {}  # number of a model: weak reference
        self.watched: dict[int, list[Any]] = {}  # a model's dropout and norm modules
        self.parameters: dict[int, dict[str, Any]] = {}
        self.leaf_sets: list[list[int]] = []
        self.leaf_index: dict[tuple[int, ...], int] = {}
        self.counts: dict[str, dict[str, int]] = {}  # what: place: how often
        self.kept: list[tuple[int, Any]] = []
        self.stepped: dict[int, int] = {}  # first parameter: steps of its optimizers
        self.steps = self.forwards = self.losses = 0
        self.backwards: dict[str, int] = {}  # of each line
        self.depth = 0
        self.root: Any = None
        self.inside = self.differentiating = self.scheduling = self.unscaling = self.done = False
        self.scaled = False  # a loss was scaled since the last step, and nothing unscaled
        self.stepping_scaler = False
        self.cut_from: int | None = None
        self.cuts = 0
        self.passes = 0  # over loaders since the last step
        self.unlearned = 0  # forward passes without gradients since a pass began, or a step
        self.validating = False
        self.validations = 0
        self.framework = ""
        self.last_tokens: Any = None
        self.last_rows: list[int] = []  # of the last forward pass: its samples
        self.moved = False
        self.loaded: dict[int, Any] = {}  # parameter: values that were loaded, and the line
        self.unstepped: dict[int, Any] = {}  # what is trained while nothing has stepped: values
        self.inputs: dict[int, Any] = {}  # number of a model: weak reference to its last input
        self.kept_batches = Kept()
        self.samples = Samples()
        self.schedulers: dict[int, dict[str, Any]] = {}
        self.rates: dict[int, float] = {}  # number of an optimizer: its highest learning rate
        self.experiments: dict[str, Any] = {}
        self.results: set[int] = set()  # memory of what the last model returned
        self.answers: dict[int, list[Any]] = {}  # model: passes since the last backward pass
        self.negatives: dict[int, None] = {}  # addresses, the latest last
        self.clipping = False  # the script clips gradients
        self.used: dict[int, tuple[Any, int]] = {}  # parameter: its last gradient that was used
        self.left: dict[int, Any] = {}  # parameter: a few of its values after the last step
        self.frozen: dict[int, int] = {}  # parameter that asks for no gradient: its first values
        self.trainable: set[int] = set()  # first values of the others

    def ours(self) -> bool:
        """Whether a hook is to look: in the script's own thread, and not at what we do."""
        return not (
            self.done
            or self.inside
            or os.getpid() != self.pid
            or threading.get_ident() != self.thread
        )

    def deep(self, count: int) -> bool:
        """Whether to look closely at something that has happened `count` times before."""
        return count < DEEP_FIRST or count % DEEP_EVERY == 0

    def event(self, kind: str, **values: Any) -> dict[str, Any]:
        """Note what happened."""
        values["k"], values["n"] = kind, self.steps
        if len(self.events) < MAX_EVENTS:
            self.events.append(values)
        return values

    def count(self, what: str, at: str) -> None:
        """Note that something happened once more at a place."""
        places = self.counts.setdefault(what, {})
        places[at] = places.get(at, 0) + 1


SEEN = Seen()


def watching(hook: Callable[..., Any]) -> Callable[..., Any]:
    """What a hook raises costs what the hook would have seen, and nothing else."""

    @functools.wraps(hook)
    def guarded(*args: Any, **keywords: Any) -> Any:
        if not SEEN.ours():
            return None
        SEEN.inside = True
        try:
            return hook(*args, **keywords)
        except Exception as error:
            SEEN.errors.setdefault(hook.__name__, repr(error)[:300])
            return None
        finally:
            SEEN.inside = False

    return guarded


def beside(name: str) -> Any:
    """A file or folder beside this one, which knows nothing of the package either."""
    known = f"_cnntune_{name}"
    if known not in sys.modules:
        here = os.path.dirname(os.path.abspath(__file__))
        folder = os.path.join(os.path.dirname(here), name)
        inside = os.path.isdir(folder)
        path = os.path.join(folder, "__init__.py") if inside else f"{folder}.py"
        parts = [folder] if inside else None
        spec = importlib.util.spec_from_file_location(known, path, submodule_search_locations=parts)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]
