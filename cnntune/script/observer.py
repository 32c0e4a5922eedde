"""Observes a training script from inside its process, and writes down what it saw.

One file: the Python that runs the script may be another one than cnntune's (3.9 or later) with
another PyTorch (2.1 or later), so that it imports the standard library and `torch` alone.
`site/sitecustomize.py` loads it. It adds nothing to the script's modules and tensors, draws no
random number, and keeps no tensor longer than a step.

A record is one JSON file per process: `events` in the order in which they happened, each with its
kind `k` and the number `n` of optimizer steps before it, and tables of optimizers, models,
parameters and places. `cnntune/script/record.py` says what each key holds.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import math
import os
import sys
import tempfile
import threading
import time
import traceback
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

FORMAT = 1
DEEP_FIRST = 10  # steps, backward passes and forward passes that are looked at closely at first
DEEP_EVERY = 10  # and then one in so many: what costs is every parameter at every step
MAX_EVENTS = 60_000  # then the record ends, and says so
MAX_ROWS = 256  # of a batch that are recognized again
RICH = 0.3  # share of values that differ, in samples of measured numbers
WIDE = 32  # values of a sample
LEVELS = 8  # of gray, in images
MAX_PRINTED = 4  # inputs that tell samples apart
VALUES = 64  # of a row that make its fingerprint
MAX_NODES = 20_000  # of a graph that are followed
MAX_TOP_NODES = 500  # of them, between a loss and the results of models
FIRST_BATCHES = 2  # of a pass, whose samples are compared with those of the next one
SHORT_PASS = 4  # batches of a pass over a loader once enough steps were seen
MANY_STAGES = 5  # times the steps that are wanted, where each stage has a network of its own
CHEAP_SECONDS = 8.0
VALIDATIONS = 2  # to see what differs between two of them
SNAPSHOT_SECONDS = 5.0  # between two writes of the record, for a process that is killed
ALIKE = 1e-5  # of the largest weight: units that are the same but for rounding
EVEN_VALUES = 128  # of a weight, to tell whether they are spread evenly
EVEN = 0.1  # of the bound: 3 standard errors of the spread of so many values
KEPT_BATCHES = 24
KEPT_BYTES = 2**26  # of batches that are kept for experiments
MAX_SHOWN_MODELS = 3
MAX_IN_BATCH = 8  # tensors
PROBE_SECONDS = 4.0
MAX_TARGET = 10**6  # values of a target that are kept
KEPT_WEIGHTS = 3 * 10**7  # of a model that is kept
MAX_FRAMES = 10  # of the user's, above an exception
HIDDEN_SUMS = ("Dot", "Mv", "Mm", "Bmm", "Norm", "LinalgVectorNorm", "Dist", "Cumsum")
SUMMED = 2  # the reduction of torch's losses, in their graph nodes
MANY_TERMS = 3  # of one kind: samples, where two may be two tasks
COMPARED = 4  # parameters
MAX_NEGATIVES = 64  # tensors of which it is known that they are the negative of another one
MARK = "cnntune"  # key in a graph node's metadata
SKIPPED = (  # operations that change the shape or the type of a value only
    "View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "T",
    "Transpose", "Slice", "Select", "Index", "ToCopy", "Clone", "Expand", "Alias", "Gather",
    "Flatten",
)  # fmt: skip
TOP = ("Mean", "Sum", "Add", "Mul", "Div", "Neg")  # between a loss and what is differentiated
LOSSES = (  # that are computed again from a model's result
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div",
)  # fmt: skip
OTHER_LOSSES = (
    "ctc_loss", "gaussian_nll_loss", "poisson_nll_loss", "cosine_embedding_loss",
    "margin_ranking_loss", "hinge_embedding_loss", "soft_margin_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss",
)  # fmt: skip
LOGARITHMIC = ("nll_loss", "kl_div")  # these take logarithms of probabilities
CLASSIFYING = ("cross_entropy", "nll_loss")
FRAMEWORKS = {  # part of a path: name
    "/pytorch_lightning/": "lightning",
    "/lightning/pytorch/": "lightning",
    "/lightning/fabric/": "lightning-fabric",
    "/transformers/trainer": "transformers",
    "/ultralytics/": "ultralytics",
    "/fastai/": "fastai",
    "/accelerate/optimizer": "accelerate",
}
SITE_PACKAGES = ("site-packages", "dist-packages")
STDLIB = os.path.dirname(os.__file__) + os.sep
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # cnntune itself


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
        self.steps = self.forwards = self.backwards = self.losses = 0
        self.depth = 0
        self.root: Any = None
        self.inside = self.differentiating = self.scheduling = self.unscaling = self.done = False
        self.scaled = False  # a loss was scaled since the last step, and nothing unscaled
        self.stepping_scaler = False
        self.cut_from: int | None = None
        self.cuts = 0
        self.passes = 0  # over loaders since the last step
        self.validating = False
        self.validations = 0
        self.framework = ""
        self.last_tokens: Any = None
        self.moved = False
        self.values: dict[int, Any] = {}
        self.inputs: dict[int, Any] = {}  # number of a model: weak reference to its last input
        self.kept_batches = Kept()
        self.samples = Samples()
        self.schedulers: dict[int, dict[str, Any]] = {}
        self.rates: dict[int, float] = {}  # number of an optimizer: its highest learning rate
        self.experiments: dict[str, Any] = {}
        self.results: set[int] = set()  # memory of what the last model returned
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


# Places

_theirs: dict[str, bool] = {}


def is_theirs(path: str) -> bool:
    """Whether a file is the user's, and not Python's, a library's or this one."""
    known = _theirs.get(path)
    if known is None:
        known = not (
            any(word in path for word in SITE_PACKAGES)
            or path.startswith((STDLIB, "<", PACKAGE))
            or path == __file__
            or os.path.basename(path) in ("torchrun", "accelerate")
        )
        _theirs[path] = known
    return known


def place() -> str:
    """`train.py:57`: the innermost line of the user's that leads here, below the current folder."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_theirs(frame.f_code.co_filename):
            return f"{short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def caller() -> str:
    """The line that called the module or function, whoever wrote it."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path != __file__ and f"{os.sep}torch{os.sep}" not in path:
            return f"{os.path.basename(path)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


@functools.cache
def short(path: str) -> str:
    """A path as the user would type it."""
    try:
        inside = os.path.relpath(path)
    except (ValueError, OSError):
        return os.path.basename(path)
    return os.path.basename(path) if inside.startswith("..") else inside


def framework() -> str:
    """The framework whose loop leads here; empty for a loop of the user's own."""
    frame = sys._getframe(1)
    found = ""
    while frame is not None:
        path = frame.f_code.co_filename.replace(os.sep, "/")
        for part, name in FRAMEWORKS.items():
            if part in path:
                found = name
        frame = frame.f_back  # type: ignore[assignment]
    return found


def crash(kind: Any, error: Any, trace: Any) -> dict[str, Any]:
    """The user's lines that an exception passed, and what it says."""
    frames = [
        f"{short(frame.filename)}:{frame.lineno}: {frame.line}".rstrip(": ")
        for frame in traceback.extract_tb(trace)
        if frame.filename == "<string>" or is_theirs(frame.filename)
    ]
    return {
        "frames": frames[-MAX_FRAMES:],
        "error": "".join(traceback.format_exception_only(kind, error)).rstrip(),
    }


def note_crash(kind: Any, error: Any, trace: Any) -> None:
    """Write down what ends the script."""
    if issubclass(kind, Exception):
        path = os.path.join(SEEN.folder, f"crash-{os.getpid()}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(crash(kind, error, trace), file)


# Tensors


def tensors_in(values: Iterable[Any], torch: Any, depth: int = 2) -> Iterator[Any]:
    """The tensors in arguments or results, also in lists and dictionaries."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif depth and isinstance(value, (list, tuple)):
            yield from tensors_in(value[:16], torch, depth - 1)
        elif depth and hasattr(value, "values") and hasattr(value, "keys"):
            yield from tensors_in(list(value.values()), torch, depth - 1)


def row_prints(tensor: Any, torch: Any) -> list[int]:
    """A number per row that is the same for the same values."""
    rows = tensor.detach()[:MAX_ROWS].reshape(min(len(tensor), MAX_ROWS), -1)
    width = rows.shape[1]
    if width > VALUES:  # spread unevenly, so that no border of an image is all that is seen
        columns = [(i * 7919 + i * i * 31) % width for i in range(VALUES)]
        rows = rows[:, torch.tensor(columns, device=rows.device)]
    if rows.dtype in (torch.bfloat16, torch.float16):
        rows = rows.float()
    found = rows.contiguous().cpu().numpy()
    return [zlib.crc32(row.tobytes()) for row in found]


def rich(tensor: Any, torch: Any) -> bool:
    """Whether two samples hardly have the same values by chance: no table of a few kinds."""
    values = tensor.detach()[:8].reshape(-1)[:512]
    kinds, width = len(torch.unique(values)), tensor[0].numel()
    return kinds >= RICH * len(values) or (width >= WIDE and kinds >= LEVELS)


def whole_rows(rows: list[int], inputs: list[Any], torch: Any) -> list[int]:
    """A number per sample, where it has more inputs than the first."""
    found = rows
    for other in inputs[1:MAX_PRINTED]:
        if other.dim() and len(other) == len(inputs[0]):
            found = [zlib.crc32(b"%d %d" % pair) for pair in zip(found, row_prints(other, torch))]
    return found


def other_prints(first: Any, inputs: list[Any], torch: Any) -> int:
    """A number that is the same where all inputs but the first are."""
    others = [x for x in inputs[:MAX_PRINTED] if x is not first]
    prints = [
        row_prints(x.reshape(-1, 1) if x.dim() < 1 else x, torch) for x in others if x.numel()
    ]
    return zlib.crc32(repr(prints).encode())


def statistics(tensor: Any, torch: Any) -> dict[str, Any]:
    """Mean, standard deviation, extremes and whether all values are finite."""
    values = tensor.detach().float()
    deviation, mean = torch.std_mean(values, unbiased=False)
    low, high = torch.aminmax(values)
    return {
        "mean": float(mean),
        "std": float(deviation),
        "min": float(low),
        "max": float(high),
        "finite": bool(torch.isfinite(values).all()),
    }


def few_values(tensor: Any) -> Any:
    """The first values of a tensor, as a copy."""
    found = tensor.detach()
    while found.dim() > 1:
        found = found[0]
    return (found[:8] if found.dim() else found).clone()


def look(parameters: list[Any]) -> list[float]:
    """A few numbers that change when the parameters do, for a model of any size."""
    spread = parameters[:: max(1, len(parameters) // 8)][:8]
    return [float(few_values(parameter).double().sum()) for parameter in spread]


# Graphs


def bare(node: Any) -> str:
    """`Softmax` of `SoftmaxBackward0`."""
    return str(node.name()).split("Backward")[0].rsplit("::", 1)[-1]


def below(node: Any) -> Any:
    """What a node was computed from: its first differentiable input, shapes and types skipped."""
    for _ in range(20):
        node = next((other for other, _ in node.next_functions if other is not None), None)
        if node is None or bare(node) not in SKIPPED:
            return node
    return node


def origin(tensor: Any) -> tuple[str, bool]:
    """The operation that a tensor is the result of, and whether one value per row was chosen."""
    node, picked = tensor.grad_fn, False
    for _ in range(20):
        if node is None:
            return "", picked
        name = bare(node)
        picked = picked or name == "Gather"
        if name not in SKIPPED:
            return name, picked
        node = next((other for other, _ in node.next_functions if other is not None), None)
    return "", picked


def constant_factor(node: Any, torch: Any) -> float:
    """The product of constants that the loss was multiplied with, last of all."""
    factor = 1.0
    for _ in range(8):
        inputs = [other for other, _ in node.next_functions if other is not None]
        name = bare(node)
        if name in ("Mul", "Div") and len(inputs) == 1:
            other = getattr(node, "_saved_other", None)
            if other is None or (isinstance(other, torch.Tensor) and other.numel() != 1):
                break
            factor = factor * float(other) if name == "Mul" else factor / float(other)
        elif name not in ("ToCopy", "View", "Alias", "Clone"):
            break
        node = inputs[0] if inputs else None
        if node is None:
            break
    return factor


def summed(start: Any) -> float | None:
    """How many values a loss is the sum of, at most, above the results of models; 1 for a mean.

    None where that is not known: in a large graph, or for dot products and norms.
    """
    most, stack, best = 1.0, [(start, 1.0, "")], {start: 1.0}
    for _ in range(MAX_TOP_NODES):
        if not stack:
            return most
        node, count, above = stack.pop()
        name = bare(node)
        if name in HIDDEN_SUMS:
            return None
        if name == "Sum":
            into = math.prod(int(size) for size in node._saved_self_sym_sizes)
            count *= max(1.0, into / math.prod(shape_of(node)))
        elif getattr(node, "_saved_reduction", 1) == SUMMED:
            of = node._saved_target if name.startswith("NllLoss") else node._saved_self
            count *= of.numel()
        elif name == "Add" != above:
            count *= alike_terms(node)
        most = max(most, count)
        if node.metadata.get(MARK) is not None:
            continue
        for other, _ in node.next_functions:
            if other is not None and count > best.get(other, 0.0):
                best[other] = count
                stack.append((other, count, name))
    return None


def alike_terms(node: Any) -> int:
    """How many terms of one kind a chain of additions has, as where a loop adds samples' losses."""
    stack, kinds = [node], {"": 1}
    while stack and sum(kinds.values()) < MAX_TOP_NODES:
        for other, _ in stack.pop().next_functions:
            if other is not None and bare(other) == "Add":
                stack.append(other)
            elif other is not None:
                kinds[bare(other)] = kinds.get(bare(other), 0) + 1
    most = max(kinds.values())
    return most if most >= MANY_TERMS else 1


def walk(start: Any, torch: Any, held: set[int]) -> dict[str, Any]:
    """The graph below a loss: its parameters, its forward passes, what enters its losses."""
    seen, stack = {start}, [start]
    leaves: list[int] = []
    forwards: set[int] = set()
    pairs: set[str] = set()
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            number = SEEN.numbers.of(leaf)
            if isinstance(leaf, torch.nn.Parameter) or number in held:
                leaves.append(number)
                note_parameter(number, leaf)
            continue
        name = bare(node)
        if name in ("LogSoftmax", "NllLoss", "NllLoss2D", "BinaryCrossEntropyWithLogits"):
            under = below(node)
            pairs.add(f"{name}<{bare(under) if under is not None else ''}")
        mark = node.metadata.get(MARK)
        if mark is not None:
            forwards.add(mark)
        for other, _ in node.next_functions:
            if other is not None and other not in seen:
                seen.add(other)
                stack.append(other)
    key = tuple(sorted(leaves))
    if key not in SEEN.leaf_index:
        SEEN.leaf_index[key] = len(SEEN.leaf_sets)
        SEEN.leaf_sets.append(list(key))
    return {
        "leaves": SEEN.leaf_index[key],
        "forwards": sorted(forwards),
        "pairs": sorted(pairs),
        "nodes": len(seen),
    }


def note_parameter(number: int, parameter: Any) -> dict[str, Any]:
    """The entry of a parameter."""
    entry = SEEN.parameters.get(number)
    if entry is None:
        entry = {"size": parameter.numel(), "name": "", "looked": 0, "none": 0, "zero": 0}
        SEEN.parameters[number] = entry
    return entry


def spread(start: Any, torch: Any) -> list[list[Any]]:
    """Where a prediction is broadcast against targets: `[N, 1]` or `[N]` that becomes `[N, N]`.

    Only above the results of models, and where the other operand is no prediction itself.
    """
    seen, stack, found = {start}, [start], []
    while stack and len(seen) < MAX_TOP_NODES:
        node = stack.pop()
        inputs = [other for other, _ in node.next_functions if other is not None]
        if node.metadata.get(MARK) is not None:
            continue
        if bare(node) in ("Sub", "Mul", "Add", "Div") and len(inputs) == 1:
            sizes = [shape_of(inputs[0]), shape_of(node)]
            if sizes[0] in (sizes[1][:1], [*sizes[1][:1], 1]):
                if len(sizes[1]) == 2 and sizes[1][0] == sizes[1][1] > 1:
                    found.append(sizes)
        for other in inputs:
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return found


def shape_of(node: Any) -> list[int]:
    """The shape of what a node computed; empty where this torch does not tell."""
    known = getattr(node, "_input_metadata", None)
    return [int(size) for size in known[0].shape] if known else []


# What the hooks note


@watching
def note_forward(module: Any, args: Any, keywords: Any, output: Any, torch: Any) -> None:
    """A forward pass of a module that no other module called."""
    parameters = list(module.parameters())
    if not parameters:
        return
    number = SEEN.numbers.of(module)
    deep = SEEN.deep(SEEN.forwards)
    SEEN.forwards += 1
    if number not in SEEN.roots or deep:
        SEEN.roots[number] = weakref.ref(module)
        SEEN.watched[number] = [part for part in module.modules() if differs_in_eval(part)]
        entry = SEEN.models.setdefault(number, {"class": type(module).__name__, "first": None})
        entry["shapes"] = zlib.crc32(repr([tuple(p.shape) for p in parameters]).encode())
        if entry["first"] is None:
            entry["first"] = look(parameters)
            note_trainable(parameters)
            entry["frozen"] = frozen(module)
            entry["dropped"], entry["momentum"] = extremes(module)
    at, grad = place(), torch.is_grad_enabled()
    event = SEEN.event(
        "forward",
        model=number,
        train=module.training,
        active=sum(part.training for part in SEEN.watched[number]),
        watched=len(SEEN.watched[number]),
        norms=sum(
            part.training and "BatchNorm" in type(part).__name__ for part in SEEN.watched[number]
        ),
        grad=grad,
        at=at,
        by=caller(),
        index=SEEN.forwards,
        trains=any(p.requires_grad for p in parameters),
    )
    inputs = list(tensors_in([*args, *keywords.values()], torch))
    first = next((x for x in inputs if x.dim() > 0 and len(x)), None)
    if first is not None:
        event["shape"], event["type"] = list(first.shape), str(first.dtype).rpartition(".")[2]
        event["rows"] = row_prints(first, torch)
        if deep or SEEN.forwards <= KEPT_BATCHES:
            event["others"] = other_prints(first, inputs, torch)
        if deep or not grad:
            event["rich"] = rich(first, torch)
        before = SEEN.inputs.get(number)
        event["again"] = (before is not None and before() is first) or first._base is not None
        SEEN.inputs[number] = weakref.ref(first)
        SEEN.last_tokens = None if first.is_floating_point() else first.detach()
        if deep and first.is_floating_point():
            event["input"] = statistics(first, torch)
    if not grad or not module.training:
        event["look"] = look(parameters)
        if SEEN.passes and SEEN.steps:
            SEEN.validating = True
    SEEN.results = {t.untyped_storage().data_ptr() for t in tensors_in([output], torch)}
    for tensor in tensors_in([output], torch):
        if tensor.grad_fn is not None:
            tensor.grad_fn.metadata[MARK] = SEEN.forwards
    SEEN.samples.last = None
    kept_all = SEEN.samples.counts.get((number, grad), 0) >= KEPT_BATCHES
    if event.get("rows") and not (kept_all and (SEEN.kept_batches.closed or not grad)):
        rows = whole_rows(event["rows"], inputs, torch)
        show(number, module, args, keywords, grad, rows, torch)
        if grad and not SEEN.kept_batches.closed:
            keep_forward(module, args, keywords, output, rows, torch)


def keep_forward(
    module: Any, args: Any, keywords: Any, output: Any, rows: list[int], torch: Any
) -> None:
    """A pass that may be a training step; its loss is to come."""
    kept = SEEN.kept_batches
    kept.pending = None
    if kept.model is not None and kept.model is not module:
        return
    inputs = list(tensors_in([*args, *keywords.values()], torch))
    if any(tensor.requires_grad for tensor in inputs) or len(rows) != len(inputs[0]):
        return  # a part of a network, or a batch too large to know all its samples
    if kept.model is None:
        weights = [*module.parameters(), *module.buffers()]
        if sum(w.numel() for w in weights) > KEPT_WEIGHTS or any(w.is_meta for w in weights):
            kept.closed = True
            return
        first = [w.detach().clone() for w in weights]
    else:
        first = kept.state
    size = sum(tensor.nbytes for tensor in inputs)
    if kept.bytes + size > KEPT_BYTES:
        kept.closed = True
        return
    kept.pending = {
        "module": module,
        "state": first,
        "train": module.training,
        "args": copied(args, torch),
        "keywords": copied(keywords, torch),
        "outputs": [weakref.ref(tensor) for tensor in tensors_in([output], torch)],
        "rows": rows,
        "bytes": size,
    }


def show(
    number: int, module: Any, args: Any, keywords: Any, grad: bool, rows: list[int], torch: Any
) -> None:
    """Keep what a model got, with what else was in the batch of a loader."""
    samples = SEEN.samples
    key = number, grad
    if samples.counts.get(key, 0) >= KEPT_BATCHES or (not grad and not SEEN.passes):
        return
    inputs = list(tensors_in([*args, *keywords.values()], torch))
    if any(tensor.requires_grad for tensor in inputs) or len(inputs[0]) != len(rows):
        return
    if number not in samples.models:
        if len(samples.models) >= MAX_SHOWN_MODELS:
            return
        if not grad or sum(p.numel() for p in module.parameters()) > KEPT_WEIGHTS:
            return
        samples.models[number] = module
    memory = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    others = [t for t in samples.batch if t.untyped_storage().data_ptr() not in memory]
    size = sum(tensor.nbytes for tensor in [*inputs, *others])
    if samples.bytes + size > KEPT_BYTES:
        return
    samples.bytes += size
    samples.counts[key] = samples.counts.get(key, 0) + 1
    samples.last = {
        "model": number,
        "grad": grad,
        "args": copied(args, torch),
        "keywords": copied(keywords, torch),
        "others": copied(others, torch),
        "target": None,
        "rows": rows,
        "size": samples.size if samples.batch else None,
    }
    samples.entries.append(samples.last)


def note_target(target: Any, torch: Any) -> None:
    """What the result of the forward pass at hand is compared with."""
    last = SEEN.samples.last
    if last is not None and last["target"] is None and not target.requires_grad:
        if target.numel() <= MAX_TARGET:
            last["target"] = copied(target, torch)


def copied(value: Any, torch: Any) -> Any:
    """A copy of the tensors in arguments."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(entry, torch) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(entry, torch) for entry in value)
    return value


def keep_loss(name: str, args: Any, keywords: Any, result: Any, torch: Any) -> None:
    """The loss of the pending pass, where it is computed from a view of what the model returned."""
    pending = SEEN.kept_batches.pending
    prediction, target = args[0], args[1] if len(args) > 1 else keywords.get("target")
    if pending is None or "loss" in pending or result.numel() != 1 or target.requires_grad:
        return
    for index, reference in enumerate(pending["outputs"]):
        tensor = reference()
        if tensor is None or tensor.dtype != prediction.dtype or not tensor.is_contiguous():
            continue
        if tensor.untyped_storage().data_ptr() == prediction.untyped_storage().data_ptr():
            pending["loss"] = {
                "name": name,
                "index": index,
                "size": tuple(prediction.shape),
                "stride": prediction.stride(),
                "offset": prediction.storage_offset() - tensor.storage_offset(),
                "target": copied(target, torch),
                "args": copied(tuple(args[2:]), torch),
                "keywords": copied({k: v for k, v in keywords.items() if k not in USED}, torch),
            }
            pending["node"], pending["at"] = result.grad_fn, place()
            return


USED = ("input", "target")


def keep_step(loss: Any, torch: Any) -> None:
    """The pending pass is a training step where exactly its loss is differentiated."""
    kept, pending = SEEN.kept_batches, SEEN.kept_batches.pending
    kept.pending = None
    if pending is None or kept.closed:
        return
    node = pending.pop("node", None)
    if node is None:  # the model may have computed the loss itself
        for index, reference in enumerate(pending["outputs"]):
            tensor = reference()
            if tensor is not None and tensor.numel() == 1 and tensor.grad_fn is not None:
                if same_up_to_a_factor(loss.grad_fn, tensor.grad_fn):
                    pending["loss"] = {"name": "", "index": index, "target": None}
                    node, pending["at"] = tensor.grad_fn, place()
                    break
    if node is None or not same_up_to_a_factor(loss.grad_fn, node):
        return
    if kept.model is None:
        kept.model = pending["module"]
        kept.state, kept.train = pending["state"], pending["train"]
    kept.lines.append(pending["at"])
    kept.bytes += pending["bytes"]
    kept.examples.append({key: pending[key] for key in ("args", "keywords", "loss", "rows")})
    kept.closed = len(kept.examples) >= KEPT_BATCHES


def same_up_to_a_factor(node: Any, wanted: Any) -> bool:
    """Whether a node is another one, or that one times constants."""
    for _ in range(8):
        if node is wanted:
            return True
        inputs = [other for other, _ in node.next_functions if other is not None]
        if bare(node) not in ("Mul", "Div", "ToCopy", "Clone", "View") or len(inputs) != 1:
            return False
        node = inputs[0]
    return False


def experiments(torch: Any, seconds: float) -> dict[str, Any]:
    """What copies of models do with the batches that were kept, and what schedulers will do."""
    if seconds <= 0:
        return {}
    done, SEEN.done = SEEN.done, True
    states = torch.get_rng_state()
    found: dict[str, Any] = {}
    try:
        for name, attempt in (
            ("schedules", lambda: planned(torch)),
            ("probes", lambda: probed(torch, seconds)),
            ("copies", lambda: trained_copies(torch, seconds)),
        ):
            try:
                result = attempt()
            except Exception as error:  # a model that cannot be copied, or runs in one place only
                found.setdefault("skipped", repr(error)[:300])
                continue
            if isinstance(result, dict) and name == "copies":
                found.update(result)
            elif result:
                found[name] = result
        return found
    finally:
        torch.set_rng_state(states)
        SEEN.done = done


def planned(torch: Any) -> list[dict[str, Any]]:
    """What each scheduler does until the announced end; passes that are cut short do not count."""
    steps = [e for e in SEEN.events if e["k"] == "step" and not e["cut"]]
    batches, backwards, begun = None, 0, None
    for event in SEEN.events:
        if event["k"] == "pass":
            begun = event
        elif event["k"] == "cut":
            break
        elif event["k"] == "backward":
            backwards += 1
            batches = begun["batches"] if begun is not None else None
    if not steps or len({e["optimizer"] for e in steps}) > 1:
        return []
    found = []
    for number, known in SEEN.schedulers.items():
        seen = [e for e in SEEN.events if e["k"] == "schedule" and e["scheduler"] == number]
        whole = [e for e in seen if not e["cut"]]
        if not known["epochs"] or not whole or not hasattr(known["scheduler"], "optimizer"):
            continue
        if type(known["scheduler"]).__name__ == "ReduceLROnPlateau" or SEEN.framework != "plain":
            continue
        rates = [max(e["lr"], default=0.0) for e in SEEN.events if e["k"] == "step"]
        per_step = len(whole) > 0.5 * len(steps)
        if per_step and batches is None:
            continue
        per_epoch = batches * len(whole) / backwards if per_step and batches else 1.0
        result = beside("schedules").to_the_end(
            known["scheduler"], max(rates, default=0.0), known["steps"], per_epoch,
            known["epochs"], torch,
        )  # fmt: skip
        if result:
            found.append({**result, "at": whole[-1]["at"], "per_step": per_step})
    return found


def probed(torch: Any, seconds: float) -> dict[str, Any]:
    """Probes of the model that got most batches, as it is now, in eval mode."""
    samples, tools = SEEN.samples, beside("probes")
    trained = {k[0]: count for k, count in samples.counts.items() if k[1]}
    if not trained:
        return {}
    number = max(trained, key=lambda one: trained[one])
    model = samples.models[number]
    case = beside("experiments").Case(model, [], False, [], None)
    shown = {
        grad: [
            tools.Shown(e["args"], e["keywords"], e["target"], e["others"], e["rows"], e["size"])
            for e in samples.entries
            if e["model"] == number and e["grad"] == grad
        ]
        for grad in (True, False)
    }
    model = getattr(model, "module", model) if "Parallel" in type(model).__name__ else model
    case.model = model
    copy = case.fresh(torch)
    until = time.monotonic() + min(seconds, PROBE_SECONDS)
    found: dict[str, Any] = tools.run(copy, shown[True], shown[False], torch, until)
    lines = [e["at"] for e in SEEN.events if e["k"] == "forward" and e["model"] == number]
    found["at"] = lines[-1] if lines else ""
    return found


def trained_copies(torch: Any, seconds: float) -> dict[str, Any]:
    """Train copies of the model that was kept on the batches that were kept."""
    kept = SEEN.kept_batches
    model = kept.model
    if model is None or not kept.examples:
        return {}
    model = getattr(model, "module", model) if "Parallel" in type(model).__name__ else model
    if any("SyncBatchNorm" in type(part).__name__ for part in model.modules()):
        return {}
    tools = beside("experiments")
    examples = [
        tools.Example(one["args"], one["keywords"], replayed(one["loss"], torch), one["rows"],
                      one["loss"]["target"], exchanged(one["loss"], torch))
        for one in kept.examples
    ]  # fmt: skip
    validation = [
        tools.Example(one["args"], one["keywords"], replayed(loss, torch), one["rows"],
                      loss["target"], exchanged(loss, torch))
        for one, loss in validated(kept, torch)
    ]  # fmt: skip
    case = tools.Case(model, kept.state, kept.train, examples, own_optimizer(), validation)
    with torch.enable_grad():
        found: dict[str, Any] = tools.run(case, torch, seconds)
    first = kept.examples[0]["loss"]
    found.update(name=first["name"], at=kept.lines[-1], kinds=kinds_of(first, torch))
    found["batches"] = len(examples)
    return found


def exchanged(loss: dict[str, Any], torch: Any) -> Any:
    """As `replayed`, with the targets of other samples; None where there are none."""
    target = loss["target"]
    if target is None or not target.dim():
        return None
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    return replayed({**loss, "target": target[order.to(target.device)]}, torch)


def validated(kept: Kept, torch: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Batches of the validation of the kept model, each with its loss as in training.

    Their targets are those of a loss, or what stands in the loader's batch where the targets of the
    training stand.
    """
    number, loss = SEEN.numbers.of(kept.model), kept.examples[0]["loss"]
    if not loss["name"] or loss["target"] is None or loss["offset"] or not loss["size"]:
        return []
    if tuple(loss["stride"]) != torch.empty(loss["size"], device="meta").stride():
        return []  # its dimensions are in another order than those of the model's result
    entries = [e for e in SEEN.samples.entries if e["model"] == number]
    ours = next((e for e in entries if e["grad"] and e["rows"] == kept.examples[0]["rows"]), None)
    wanted = loss["target"]
    place_of = next(
        (
            other
            for other in (ours["others"] if ours else ())
            if other.numel() == wanted.numel()
            and bool((other.reshape(wanted.shape).to(wanted.dtype) == wanted).all())
        ),
        None,
    )
    found = []
    for entry in entries:
        if entry["grad"] or entry["size"] is None or ours is None:
            continue
        target = entry["target"]
        if target is None and place_of is not None:
            like = [
                other
                for other in entry["others"]
                if other.dtype == place_of.dtype and other.shape[1:] == place_of.shape[1:]
            ]
            target = like[0] if len(like) == 1 else None
        if target is None or target.numel() % max(1, math.prod(wanted.shape[1:])):
            continue
        target = target.reshape(-1, *wanted.shape[1:]).to(wanted.dtype)
        if len(target) * len(ours["rows"]) != len(wanted) * len(entry["rows"]):
            continue
        found.append((entry, {**loss, "target": target, "resized": True}))
    return found


def kinds_of(loss: dict[str, Any], torch: Any) -> int:
    """How many different targets a batch has."""
    target = loss["target"]
    return 0 if target is None else len(torch.unique(target.detach().float()))


def replayed(loss: dict[str, Any], torch: Any) -> Callable[[Any], Any]:
    """The function from a model's result to the loss, as it was computed at first."""

    def compute(output: Any) -> Any:
        tensor = list(tensors_in([output], torch))[loss["index"]]
        if not loss["name"]:
            return tensor.reshape(())
        prediction = tensor.contiguous()
        if loss.get("resized"):
            prediction = prediction.reshape(-1, *loss["size"][1:])
        elif tuple(prediction.shape) != loss["size"] or prediction.stride() != loss["stride"]:
            offset = prediction.storage_offset() + loss["offset"]
            prediction = prediction.as_strided(loss["size"], loss["stride"], offset)
        function = getattr(torch.nn.functional, loss["name"])
        function = getattr(function, "__wrapped__", function)
        return function(prediction, loss["target"], *loss["args"], **loss["keywords"])

    return compute


def keep_optimizer(number: int, optimizer: Any) -> None:
    """Class and settings of the optimizer that holds the kept model's parameters."""
    kept, kind = SEEN.kept_batches, type(optimizer)
    ids = {id(parameter) for parameter in kept.model.parameters()}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    ours = kind.__module__.startswith("torch.optim.") and kind.__name__ != "LBFGS"
    if held & ids and ours and "lr" in optimizer.defaults:
        settings = dict(optimizer.defaults)
        settings.pop("decoupled_weight_decay", None)
        kept.optimizer = number, kind, settings


def own_optimizer() -> Any:
    """The class and the settings of the kept model's optimizer, at its highest learning rate."""
    if SEEN.kept_batches.optimizer is None:
        return None
    number, kind, settings = SEEN.kept_batches.optimizer
    rate = SEEN.rates.get(number)
    return (kind, {**settings, "lr": rate}) if rate else None


def beside(name: str) -> Any:
    """Another file of ours, which knows nothing of the package either."""
    known = f"_cnntune_{name}"
    if known not in sys.modules:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]


def value_print(parameter: Any) -> int:
    """A number that is the same for the same first values."""
    return zlib.crc32(repr((tuple(parameter.shape), few_values(parameter).tolist())).encode())


def note_trainable(parameters: list[Any]) -> None:
    """The first values of parameters that are trained, by which their copies are known."""
    SEEN.trainable.update(value_print(p) for p in parameters if p.requires_grad and p.dim() > 1)


def follows(entry: list[Any], parameter: Any) -> bool:
    """Whether a frozen parameter has changed since it was first there, as a moving average does."""
    return entry[3] and value_print(parameter) != SEEN.frozen[entry[0]]


def frozen(module: Any) -> list[list[Any]]:
    """The parameters that ask for no gradient: number, name, size, and whether they are untrained.

    Torch's layers begin with weights that are spread evenly between two bounds; training leaves
    none so. A copy of weights that are trained is no untrained layer: it follows them.
    """
    found = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            values = parameter.detach().float()
            bound, even = float(values.abs().max()) if values.numel() else 0.0, False
            if parameter.dim() > 1 and parameter.numel() >= EVEN_VALUES and bound > 0:
                spread = float(values.std()) * 3**0.5 / bound
                even = abs(spread - 1) < EVEN and abs(float(values.mean())) < EVEN * bound
            number = SEEN.numbers.of(parameter)
            if even:
                first = SEEN.frozen.setdefault(number, value_print(parameter))
                even = first not in SEEN.trainable
            found.append([number, name, parameter.numel(), even])
    return found


def extremes(module: Any) -> tuple[float, float]:
    """The highest rate of dropout, and the highest momentum of a norm's running averages."""
    parts = list(module.modules())
    rates = [
        p.p
        for p in parts
        if "Dropout" in type(p).__name__ and isinstance(getattr(p, "p", 0), float)
    ]
    momenta = [
        part.momentum
        for part in parts
        if "BatchNorm" in type(part).__name__ and isinstance(getattr(part, "momentum", None), float)
    ]
    return max(rates, default=0.0), max(momenta, default=0.0)


def alike(module: Any) -> list[list[Any]]:
    """Layers whose units all have the same weights, and not 0: number, name and units."""
    found = []
    for name, part in module.named_modules():
        weight: Any = getattr(part, "weight", None)
        layer = any(word in type(part).__name__ for word in ("Linear", "Conv"))
        if not layer or not hasattr(weight, "requires_grad") or not weight.requires_grad:
            continue
        rows = weight.detach()
        if rows.dim() < 2 or len(rows) < 2 or rows[0].numel() < 2:
            continue
        limit = ALIKE * float(rows[0].abs().max())
        if limit > 0 and float((rows[0] - rows[1]).abs().max()) <= limit:
            if float((rows - rows[:1]).abs().max()) <= limit:
                found.append([SEEN.numbers.of(weight), f"{name}.weight", len(rows)])
    return found


def differs_in_eval(module: Any) -> bool:
    """Whether a module does something else in eval mode: dropout and batch norm."""
    name = type(module).__name__
    if "BatchNorm" in name:
        return getattr(module, "running_mean", None) is not None
    rates = (getattr(module, key, 0) for key in ("p", "drop_prob", "drop_rate"))
    return "Drop" in name and any(isinstance(rate, float) and rate > 0 for rate in rates)


@watching
def note_backward(loss: Any, torch: Any) -> None:
    """A loss is about to be differentiated."""
    deep = SEEN.deep(SEEN.backwards)
    SEEN.backwards += 1
    living = [optimizer for _, optimizer in living_optimizers()]
    event = SEEN.event("backward", at=place(), size=loss.numel(), leaf=loss.grad_fn is None)
    if loss.numel() == 1:
        event["loss"] = float(loss.detach())
    if loss.grad_fn is not None:
        event["factor"] = constant_factor(loss.grad_fn, torch)
        if deep:
            event["summed"] = summed(loss.grad_fn)
        sentinel = threading.local()
        loss.grad_fn.metadata[MARK + " kept"] = sentinel
        SEEN.kept.append((SEEN.steps, weakref.ref(sentinel)))
        if deep:
            held = {SEEN.numbers.of(p) for o in living for g in o.param_groups for p in g["params"]}
            event.update(walk(loss.grad_fn, torch, held))
            event["spread"] = spread(loss.grad_fn, torch)
            event["terms"] = beside("signs").terms(loss.grad_fn, bare, MARK, is_negative, torch)
        keep_step(loss, torch)
    if SEEN.scaled:
        event["scaled"] = True
    for number, optimizer in living_optimizers():
        known = SEEN.optimizers[number]
        if not known.cleared and not any_gradient(optimizer, torch):
            known.clear()
        known.results.append({"at": event["at"], "look": SEEN.steps, "event": len(SEEN.events) - 1})
    if not SEEN.steps and deep:  # weights that change although nothing steps
        leaves = [p for _, r in SEEN.roots.items() if (m := r()) for p in m.parameters()][:64]
        values = look(leaves) if leaves else []
        SEEN.moved = SEEN.moved or values != SEEN.values.get(0, values)
        SEEN.values[0] = values


def is_negative(tensor: Any) -> bool:
    """Whether a tensor is what `-x` returned a moment ago."""
    return tensor.data_ptr() in SEEN.negatives


@watching
def note_negative(result: Any, torch: Any) -> None:
    """A tensor that is not differentiated was negated: an advantage, as some losses have it."""
    if isinstance(result, torch.Tensor) and result.numel() > 1 and not result.requires_grad:
        SEEN.negatives[result.data_ptr()] = None
        while len(SEEN.negatives) > MAX_NEGATIVES:
            del SEEN.negatives[next(iter(SEEN.negatives))]


@watching
def note_log_probability(result: Any, args: Any, keywords: Any, torch: Any) -> None:
    """A distribution told the logarithm of a probability."""
    value = args[1] if len(args) > 1 else keywords.get("value")
    if isinstance(result, torch.Tensor) and result.grad_fn is not None:
        drawn = "moved" if isinstance(value, torch.Tensor) and value.requires_grad else "given"
        result.grad_fn.metadata[beside("signs").LOG_PROBABILITY] = drawn


def living_optimizers() -> list[tuple[int, Any]]:
    """The optimizers that have not been deleted, with their numbers."""
    return [(n, optimizer) for n, r in SEEN.living.items() if (optimizer := r()) is not None]


def any_gradient(optimizer: Any, torch: Any) -> bool:
    """Whether any gradient is neither None nor 0 throughout."""
    found = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    return any(bool(gradient.detach().any()) for gradient in found)


@watching
def note_optimizer(optimizer: Any) -> None:
    """An optimizer was made."""
    add_optimizer(SEEN.numbers.of(optimizer), optimizer, place())


def add_optimizer(number: int, optimizer: Any, at: str) -> None:
    """From here on an optimizer is known."""
    SEEN.living[number] = weakref.ref(optimizer)
    SEEN.optimizers[number] = Optimizer(number, type(optimizer).__name__, at, SEEN.steps)
    known = SEEN.event("optimizer", optimizer=number, at=at, parameters=numbers_in(optimizer))
    SEEN.optimizers[number].made = known


@watching
def note_group(optimizer: Any) -> None:
    """An optimizer got further parameters after it was made, as where layers are unfrozen."""
    number = SEEN.numbers.of(optimizer)
    if number in SEEN.optimizers:
        SEEN.event("group", optimizer=number, parameters=numbers_in(optimizer))


def numbers_in(optimizer: Any) -> list[int]:
    """The numbers of the parameters that an optimizer holds."""
    return [SEEN.numbers.of(p) for group in optimizer.param_groups for p in group["params"]]


@watching
def note_cleared(parameters: list[Any] | None, optimizer: Any) -> None:
    """Gradients were cleared by an optimizer, or by a module with these parameters."""
    if optimizer is not None:
        touched = [SEEN.numbers.of(optimizer)]
    else:
        ids = {id(p) for p in parameters or ()}
        touched = [
            number
            for number, other in living_optimizers()
            if any(id(p) in ids for g in other.param_groups for p in g["params"])
        ]
    for number in touched:
        if number in SEEN.optimizers:
            SEEN.optimizers[number].clear()
    SEEN.event("clear", optimizers=touched, at=place())


@watching
def note_before_step(optimizer: Any, torch: Any) -> None:
    """An optimizer is about to step; a closure may still have to compute the gradients."""
    number = SEEN.numbers.of(optimizer)
    if number not in SEEN.optimizers:  # it was made before the observation began
        add_optimizer(number, optimizer, "")
    known = SEEN.optimizers[number]
    SEEN.living[number] = weakref.ref(optimizer)
    if not SEEN.framework:
        SEEN.framework = framework() or "plain"
        SEEN.stepped_first = time.time()
    known.event = {
        "optimizer": number,
        "at": place(),
        "lr": [float(group["lr"]) for group in optimizer.param_groups if "lr" in group],
        "deep": SEEN.deep(known.steps),
        "scaler": SEEN.stepping_scaler,
        "scaled": SEEN.scaled,
        "cut": SEEN.cut_from is not None,
    }
    rate = max(known.event["lr"], default=0.0)
    SEEN.rates[number] = max(SEEN.rates.get(number, 0.0), rate)
    if SEEN.kept_batches.model is not None and SEEN.kept_batches.optimizer is None:
        keep_optimizer(number, optimizer)
    # What a closure clears within the step, it computes again: that of L-BFGS, several times.
    known.lost_before_step = len(known.lost)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if not known.steps:
        known.made["reset"] = was_reset(held)
    if known.event["deep"]:
        spread = held[:: max(1, len(held) // 16)][:16]
        known.before = [(p, few_values(p)) for p in spread]


def some(held: list[Any]) -> list[Any]:
    """Parameters that are compared at every step, which must cost little."""
    return held[:: max(1, len(held) // COMPARED)][:COMPARED]


def was_reset(held: list[Any]) -> bool:
    """Whether parameters have other values than the last step of any optimizer left."""
    pairs = [(p, SEEN.left.get(SEEN.numbers.of(p))) for p in some(held)]
    return any(
        old is not None and (old.shape != (now := few_values(p)).shape or bool((old != now).any()))
        for p, old in pairs
    )


@watching
def note_after_step(optimizer: Any, torch: Any) -> None:
    """An optimizer has stepped."""
    number = SEEN.numbers.of(optimizer)
    known, event = SEEN.optimizers[number], SEEN.optimizers[number].event
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if SEEN.clipping:
        note_used(held)
    for parameter in some(held):
        SEEN.left[SEEN.numbers.of(parameter)] = few_values(parameter)
    event["of"] = len(held)
    event["none"] = sum(p.grad is None for p in held)
    if event["deep"]:
        event.update(close_look(held, torch))
        pairs = known.before
        event["changed"] = sum(bool((few_values(p) != old).any()) for p, old in pairs)
        event["compared"] = len(pairs)
    event["cleared"] = known.cleared
    event["back"] = [result["event"] for result in known.results]
    event["lost"] = [result["event"] for result in known.lost[: known.lost_before_step]]
    event["step"] = known.steps
    SEEN.event("step", **event)
    known.before, known.results, known.lost = [], [], []
    known.cleared = False
    known.steps += 1
    SEEN.steps += 1
    key = SEEN.numbers.of(held[0]) if held else 0
    SEEN.stepped[key] = SEEN.stepped.get(key, 0) + 1
    SEEN.passes = 0
    if SEEN.validating:
        SEEN.validating = False
        SEEN.validations += 1
    if SEEN.deep(SEEN.steps):
        old = [ref for born, ref in SEEN.kept if born < SEEN.steps - 3]
        alive = sum(ref() is not None for ref in old)
        SEEN.event("kept", alive=alive, of=len(old))
        SEEN.kept = SEEN.kept[-200:]


def close_look(held: list[Any], torch: Any) -> dict[str, Any]:
    """Gradients one by one: which are missing, which are exactly 0, and their norm."""
    dense = [p for p in held if p.grad is not None and not p.grad.is_sparse]
    norms = torch._foreach_norm([p.grad.detach() for p in dense]) if dense else []
    values = torch.stack([norm.float().cpu() for norm in norms]).tolist() if dense else []
    zero = {id(p) for p, norm in zip(dense, values) if norm == 0}
    for p in held:
        entry = note_parameter(SEEN.numbers.of(p), p)
        entry["looked"] += 1
        entry["none"] += p.grad is None
        entry["zero"] += id(p) in zero
    return {"norm": sum(norm * norm for norm in values) ** 0.5, "zero": len(zero)}


@watching
def note_loss(name: str, args: Any, keywords: Any, result: Any, torch: Any) -> None:
    """A loss function was called."""
    tools = beside("arguments")
    given = tools.bound(getattr(torch.nn.functional, name), args, keywords)
    first, second = tools.NAMES.get(name, ("input", "target"))
    prediction, target = given.get(first), given.get(second)
    if not isinstance(prediction, torch.Tensor) or not isinstance(target, torch.Tensor):
        return
    event = SEEN.event(
        "loss",
        name=name,
        at=place(),
        shapes=[list(prediction.shape), list(target.shape)],
        grad=prediction.requires_grad or target.requires_grad,
        reduction=keywords.get("reduction", "mean"),
        plain=keywords.get("weight") is None and not keywords.get("label_smoothing"),
    )
    deep = SEEN.deep(SEEN.losses)
    SEEN.losses += 1
    if name in LOSSES and prediction.requires_grad and torch.is_grad_enabled():
        keep_loss(name, args or (prediction,), keywords, result, torch)
    note_target(target, torch)
    if deep:
        if prediction.requires_grad and target.dim() and target.numel():
            event["target"] = zlib.crc32(repr(row_prints(target, torch)).encode())
        source, picked = origin(prediction)
        event["contract"] = {**tools.facts(name, given, source, torch), "picked": picked}
    if name in OTHER_LOSSES:
        return
    whole = not target.is_floating_point() and prediction.dim() > 1 and target.numel() > 0
    if name in CLASSIFYING and whole:
        ignored = keywords.get("ignore_index", -100)
        counted = target.detach()[target.detach() != ignored]
        event["classes"] = prediction.shape[1]
        if counted.numel():
            kinds, counts = torch.unique(counted, return_counts=True)
            event["kinds"], event["targets"] = len(kinds), int(counts.sum())
            event["low"], event["high"] = int(kinds.min()), int(kinds.max())
        if result.numel() == 1:
            event["value"] = float(result.detach())
        tokens = SEEN.last_tokens
        if tokens is not None and tokens.dim() == 2 and tokens.numel() == target.numel():
            event["copies"] = bool((tokens.reshape(-1) == target.detach().reshape(-1)).all())
    if deep and prediction.is_floating_point() and prediction.numel():
        event["prediction"] = statistics(prediction, torch)
        if name in LOGARITHMIC and prediction.dim() > 1:
            values = prediction.detach().float()
            sums = [float(values.logsumexp(d).abs().max()) for d in range(values.dim())]
            event["log_sums"] = sums


@watching
def note_clip(parameters: list[Any]) -> None:
    """Gradients are about to be clipped; new ones are not 0 and were in no step of an optimizer."""
    SEEN.clipping = True
    SEEN.event("clip", at=place(), fresh=any(map(new_gradient, parameters)), scaled=SEEN.scaled)


def new_gradient(parameter: Any) -> bool:
    """Whether a gradient was computed since a step used the one before, by whatever function."""
    gradient = parameter.grad
    if gradient is None or not (gradient.is_sparse or bool(gradient.detach().any())):
        return False
    used = SEEN.used.get(SEEN.numbers.of(parameter))
    return used is None or used[0]() is not gradient or used[1] != gradient._version


def note_used(held: list[Any]) -> None:
    """A step has used these gradients: which tensors they were, and how often changed."""
    for parameter in held:
        gradient = parameter.grad
        if gradient is not None:
            known = weakref.ref(gradient), gradient._version
            SEEN.used[SEEN.numbers.of(parameter)] = known


@watching
def note_schedule(scheduler: Any) -> None:
    """A scheduler was stepped."""
    number = SEEN.numbers.of(scheduler)
    if number not in SEEN.schedulers:
        epochs = beside("schedules").announced(sys._getframe(1), is_theirs)
        SEEN.schedulers[number] = {"scheduler": scheduler, "steps": 0, "epochs": epochs}
    SEEN.schedulers[number]["steps"] += 1
    SEEN.event(
        "schedule",
        scheduler=number,
        name=type(scheduler).__name__,
        at=place(),
        total=getattr(scheduler, "total_steps", None),
        cut=SEEN.cut_from is not None,
    )


@watching
def note_pass(loader: Any) -> dict[str, Any]:
    """A pass over a loader begins."""
    SEEN.passes += 1
    SEEN.samples.batch = []
    dataset, count = loader.dataset, None
    if hasattr(dataset, "__len__"):
        count = len(dataset)
    batches = -(-count // loader.batch_size) if count and loader.batch_size else None
    return SEEN.event(
        "pass",
        loader=SEEN.numbers.of(loader),
        dataset=id(dataset),
        batches=batches,
        ordered=type(getattr(loader, "sampler", None)).__name__ == "SequentialSampler",
        samples=count,
        weights=weights_of(loader),
        at=place(),
    )


def weights_of(loader: Any) -> int | None:
    """How many weights the sampler of a loader has; None where it has none."""
    sampler: Any = getattr(loader, "sampler", None)
    if type(sampler).__name__ != "WeightedRandomSampler":
        return None
    return len(sampler.weights)


@watching
def note_batch(batch: Any, size: Any, torch: Any) -> None:
    """A loader gave a batch."""
    found = list(tensors_in([batch], torch))
    SEEN.samples.batch, SEEN.samples.size = found[:MAX_IN_BATCH], size


@watching
def note_samples(batch: Any, begun: dict[str, Any], torch: Any) -> None:
    """The first samples of a pass in a fixed order, before the script changes them."""
    if begun["ordered"]:
        found = (t for t in tensors_in([batch], torch) if t.is_floating_point() and t.dim() > 1)
        first = next((t for t in found if len(t)), None)
        if first is not None:
            begun.setdefault("given", []).extend(row_prints(first, torch))


@watching
def note_restored(module: Any, state: Any) -> None:
    """A state is about to be loaded into a module; it may be the module's own."""
    own = module.state_dict()
    shared = [k for k, v in own.items() if k in state and v.numel() and same_memory(v, state[k])]
    if own and len(shared) >= len([v for v in own.values() if v.numel()]) > 0:
        SEEN.event("restored itself", at=place())


def same_memory(one: Any, other: Any) -> bool:
    """Whether two tensors share their values."""
    return hasattr(other, "data_ptr") and one.data_ptr() == other.data_ptr() and one is not None


# The end


def perhaps_stop() -> None:
    """Stop where enough was seen, or the time is over."""
    if SEEN.inside or SEEN.done or os.getpid() != SEEN.pid:
        return
    now = time.time()
    if now > SEEN.deadline:
        leave("time")
    if now - SEEN.written > SNAPSHOT_SECONDS:
        write("running")
    if SEEN.full:
        return
    wanted = SEEN.steps_wanted
    if SEEN.cut_from is None:
        recent = list(SEEN.stepped.values())[-2:]
        many = recent and max(recent) >= wanted and min(recent) >= wanted // 10
        if many or SEEN.steps >= MANY_STAGES * wanted:
            SEEN.cut_from = SEEN.steps
            SEEN.event("cut")
            if SEEN.validations >= VALIDATIONS:
                leave("steps")
    elif SEEN.validations >= VALIDATIONS:
        leave("validations")
    elif SEEN.steps >= min(2 * SEEN.cut_from, SEEN.cut_from + wanted):
        # A further stage, such as a student's after its teacher's, is waited for where it is cheap.
        if now - SEEN.stepped_first > CHEAP_SECONDS or SEEN.steps >= MANY_STAGES * wanted:
            leave("steps")


def record(reason: str) -> dict[str, Any]:
    """All that was seen, as plain values."""
    for reference in SEEN.roots.values():
        module = reference()
        for name, parameter in module.named_parameters() if module is not None else ():
            entry = SEEN.parameters.get(SEEN.numbers.of(parameter))
            if entry is not None and len(name) >= len(entry["name"]):
                entry["name"] = name
        if module is not None:
            known = SEEN.models[SEEN.numbers.of(module)]
            known["alike"] = alike(module)
            now = {SEEN.numbers.of(parameter): parameter for parameter in module.parameters()}
            for one in known["frozen"]:
                one[3] = one[3] and not (one[0] in now and follows(one, now[one[0]]))
    torch = sys.modules.get("torch")
    return {
        "format": FORMAT,
        "reason": reason,
        "pid": SEEN.pid,
        "rank": int(os.environ.get("RANK") or 0),
        "python": sys.version.split()[0],
        "torch": str(getattr(torch, "__version__", "")),
        "framework": SEEN.framework,
        "seconds": time.time() - SEEN.started,
        "steps": max(SEEN.stepped.values(), default=0),
        "cut_from": SEEN.cut_from if SEEN.cuts else None,
        "moved": SEEN.moved,
        "full": len(SEEN.events) >= MAX_EVENTS,
        "events": SEEN.events,
        "optimizers": {
            str(known.number): {"class": known.name, "at": known.at, "steps": known.steps}
            for known in SEEN.optimizers.values()
        },
        "models": {str(number): entry for number, entry in SEEN.models.items()},
        "parameters": {str(number): entry for number, entry in SEEN.parameters.items()},
        "leaf_sets": SEEN.leaf_sets,
        "counts": SEEN.counts,
        "errors": SEEN.errors,
        "experiments": SEEN.experiments,
    }


def write(reason: str) -> None:
    """Write the record, whole or not at all."""
    inside, SEEN.inside = SEEN.inside, True
    try:
        SEEN.written = time.time()
        path = os.path.join(SEEN.folder, f"record-{SEEN.pid}.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(record(reason), file, default=str)
        os.replace(path + ".new", path)
    except Exception as error:
        sys.stderr.write(f"cnntune: cannot write what was seen: {error!r}\n")
    finally:
        SEEN.inside = inside


def leave(reason: str) -> None:
    """End the process here: nothing that the script catches or does at its end."""
    if reason != "time":
        experiment()
    write(reason)
    SEEN.done = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or nobody reads it
            continue
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing else ():
        child.terminate()
    os._exit(0)


def at_exit() -> None:
    """The script ended by itself."""
    if not SEEN.done and os.getpid() == SEEN.pid:
        experiment()
        write("ended")


def experiment() -> None:
    """Experiments on what was kept, in the first of several ranks."""
    torch = sys.modules.get("torch")
    if torch is not None and not int(os.environ.get("RANK") or 0):
        write("running")  # should an experiment end the process
        SEEN.experiments = experiments(torch, SEEN.deadline - time.time())


# The hooks


UNDO: list[tuple[Any, str, Any]] = []  # what was replaced, in its order; None where inherited
HANDLES: list[Any] = []  # of hooks that torch removes


def around(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a function of a module or class by one that calls it."""
    original = getattr(owner, name, None)
    if original is None:
        return
    replaced = make(original)
    functools.update_wrapper(replaced, original)
    UNDO.append((owner, name, vars(owner).get(name)))
    setattr(owner, name, replaced)
    torch: Any = sys.modules.get("torch")
    if (
        torch is not None and owner is torch
    ):  # what is compiled by torch.jit finds its functions by their identity
        table: Any = getattr(torch.jit, "_builtins", None)
        known = table._find_builtin(original) if table is not None else None
        if known is not None:
            table._register_builtin(replaced, known)


def after(owner: Any, name: str, then: Callable[..., None]) -> None:
    """Call `then(result, *args, **keywords)` after a function."""

    def make(original: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            result = original(*args, **keywords)
            then(result, *args, **keywords)
            return result

        return call

    around(owner, name, make)


def before(owner: Any, name: str, first: Callable[..., None]) -> None:
    """Call `first(*args, **keywords)` before a function."""

    def make(original: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            first(*args, **keywords)
            return original(*args, **keywords)

        return call

    around(owner, name, make)


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


def hook(torch: Any) -> None:
    """All hooks that see what a loop does."""
    hook_modules(torch)
    hook_backward(torch, SEEN, note_backward)
    hook_optimizers(torch)
    hook_functions(torch)
    hook_schedulers(torch)
    hook_scaler(torch)
    hook_loaders(torch)
    before(torch.nn.Module, "load_state_dict", lambda m, state, *a, **k: note_restored(m, state))
    before(torch, "manual_seed", lambda seed, *a: note_seed(seed))


@watching
def note_seed(seed: Any) -> None:
    """The random numbers begin anew."""
    SEEN.event("seed", seed=int(seed), at=place())


def hook_modules(torch: Any) -> None:
    """Forward passes that no other module called."""

    def make(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            if SEEN.depth or SEEN.differentiating or not SEEN.ours():
                return original(self, *args, **keywords)
            SEEN.depth, SEEN.root = 1, self
            try:
                output = original(self, *args, **keywords)
            finally:
                SEEN.depth = 0
            note_forward(self, args, keywords, output, torch)
            SEEN.root = None
            perhaps_stop()
            return output

        return call

    around(torch.nn.Module, "__call__", make)
    before(
        torch.nn.Module, "zero_grad", lambda m, *a, **k: note_cleared(list(m.parameters()), None)
    )


def hook_backward(torch: Any, state: Any, note: Any) -> None:
    """Losses that are differentiated, by the method or by the function: `note` gets each.

    `state` tells whether this thread is observed, and is `differentiating` in the meantime.
    """

    def make(original: Any) -> Any:
        def call(tensors: Any, *args: Any, **keywords: Any) -> Any:
            if state.differentiating or not state.ours():
                return original(tensors, *args, **keywords)
            found = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            for tensor in found:
                note(tensor, torch)
            state.differentiating = True
            try:
                return original(found[0] if len(found) == 1 else found, *args, **keywords)
            finally:
                state.differentiating = False

        return call

    around(torch.Tensor, "backward", make)
    around(torch.autograd, "backward", make)


def hook_optimizers(torch: Any) -> None:
    """Optimizers: made, cleared, stepped."""
    kind = sys.modules["torch.optim.optimizer"]  # `torch.optim` deletes the name
    after(kind.Optimizer, "__init__", lambda _, self, *a, **k: note_optimizer(self))
    after(kind.Optimizer, "add_param_group", lambda _, self, *a, **k: note_group(self))
    after(kind.Optimizer, "zero_grad", lambda _, self, *a, **k: note_cleared(None, self))

    def step(optimizer: Any, _args: Any, _keywords: Any) -> None:
        note_after_step(optimizer, torch)
        perhaps_stop()

    HANDLES.append(
        kind.register_optimizer_step_pre_hook(lambda o, a, k: note_before_step(o, torch))
    )
    HANDLES.append(kind.register_optimizer_step_post_hook(step))


def hook_functions(torch: Any) -> None:
    """Functions: losses, dropout, clipping, argmax."""
    functional = torch.nn.functional

    def noting(name: str) -> Callable[..., None]:
        return lambda result, *args, **keywords: note_loss(name, args, keywords, result, torch)

    for name in (*LOSSES, *OTHER_LOSSES):
        after(functional, name, noting(name))
    before(functional, "dropout", note_dropout)
    for owner in (torch, torch.Tensor):
        before(owner, "argmax", note_argmax)
        before(owner, "max", note_max)
    for name in ("gt", "ge", "__gt__", "__ge__"):
        before(torch.Tensor, name, note_threshold)
    before(torch.Tensor, "round", note_rounded)
    for name in ("neg", "__neg__"):
        after(torch.Tensor, name, lambda result, *a, **k: note_negative(result, torch))
    for kind in vars(torch.distributions).values():
        if isinstance(kind, type) and "log_prob" in vars(kind):
            after(kind, "log_prob", lambda r, *a, **k: note_log_probability(r, a, k, torch))
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        around(torch.nn.utils, name, noting_clips)


def noting_clips(original: Any) -> Any:
    """A function that clips the gradients of parameters, which may be a generator."""

    def call(parameters: Any, *args: Any, **keywords: Any) -> Any:
        if SEEN.ours() and not hasattr(parameters, "grad"):
            parameters = list(parameters)
            note_clip(parameters)
        elif SEEN.ours():
            note_clip([parameters])
        return original(parameters, *args, **keywords)

    return call


@watching
def note_dropout(_input: Any, p: float = 0.5, training: bool = True, *_rest: Any) -> None:
    """Dropout as a function, in a module that is in eval mode."""
    called_by = sys._getframe(3).f_code.co_filename
    of_a_module = called_by.endswith(os.path.join("nn", "modules", "dropout.py"))
    if training and p > 0 and SEEN.root is not None and not SEEN.root.training and not of_a_module:
        SEEN.count("dropout in eval", place())


@watching
def note_argmax(tensor: Any, dim: Any = None, *_rest: Any, **keywords: Any) -> None:
    """The index of the largest value of all rows together."""
    if dim is None and tensor.dim() == 2 and len(tensor) > 1:
        SEEN.count("argmax of all rows", place())
    note_largest(tensor, dim, keywords)


def note_largest(tensor: Any, dim: Any, keywords: Any) -> None:
    """The largest value of each output over the batch, in place of the largest output."""
    dim = keywords.get("axis", dim)
    if dim in (0, -2) and is_result(tensor) and tensor.dim() == 2 and min(tensor.shape) > 1:
        SEEN.count("largest over the batch", place())


@watching
def note_max(tensor: Any = None, dim: Any = None, *_rest: Any, **keywords: Any) -> None:
    """The largest value along a dimension."""
    if isinstance(keywords.get("dim", dim), int):
        note_largest(tensor, keywords.get("dim", dim), keywords)


def is_result(tensor: Any) -> bool:
    """Whether a tensor is what the last model returned, or a view of it."""
    return hasattr(tensor, "dim") and tensor.untyped_storage().data_ptr() in SEEN.results


@watching
def note_threshold(tensor: Any, other: Any = None, **_keywords: Any) -> None:
    """What a model returned is compared with one half, though it is no probability."""
    if isinstance(other, float) and other == 0.5 and is_result(tensor) and tensor.numel():
        values = tensor.detach()
        if bool(((values < 0) | (values > 1)).any()):
            SEEN.count("half of no probability", place())


@watching
def note_rounded(tensor: Any, **_keywords: Any) -> None:
    """What a model returned is rounded, though it is no probability."""
    if is_result(tensor) and tensor.is_floating_point() and tensor.numel():
        values = tensor.detach()
        if bool(((values < 0) | (values > 1)).any()):
            SEEN.count("half of no probability", place())


def hook_schedulers(torch: Any) -> None:
    """Schedulers, whose classes each have their own `step`."""
    kind = torch.optim.lr_scheduler
    base = getattr(kind, "LRScheduler", None) or kind._LRScheduler
    classes = [base, *(c for c in vars(kind).values() if isinstance(c, type))]

    def quietly(original: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            outer, SEEN.scheduling = SEEN.scheduling, True
            try:
                return original(*args, **keywords)
            finally:
                SEEN.scheduling = outer

        return call

    def noting(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            if SEEN.scheduling:
                return original(self, *args, **keywords)
            SEEN.scheduling = True
            try:
                result = original(self, *args, **keywords)
            finally:
                SEEN.scheduling = False
            note_schedule(self)
            return result

        return call

    for cls in dict.fromkeys(classes):
        if "__init__" in vars(cls) and hasattr(cls, "step"):
            around(cls, "__init__", quietly)
        if "step" in vars(cls):
            around(cls, "step", noting)


def hook_scaler(torch: Any) -> None:
    """The scaler of mixed precision."""
    kind = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler

    def scaled(_result: Any, self: Any, *_args: Any, **_keywords: Any) -> None:
        SEEN.scaled = bool(self.is_enabled())

    def unscaled(_result: Any, self: Any, *_args: Any, **_keywords: Any) -> None:
        SEEN.scaled = False

    def stepping(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            SEEN.stepping_scaler = bool(self.is_enabled())
            try:
                return original(self, *args, **keywords)
            finally:
                SEEN.stepping_scaler = SEEN.scaled = False

        return call

    after(kind, "scale", scaled)
    after(kind, "unscale_", unscaled)
    around(kind, "step", stepping)
    after(kind, "update", lambda *a, **k: SEEN.count("scaler updated", ""))


def hook_loaders(torch: Any) -> None:
    """Passes over loaders, which are short once enough steps were seen."""
    data = torch.utils.data.dataloader

    def begin(iterator: Any, loader: Any) -> None:
        iterator._cnntune_pass = note_pass(loader)
        iterator._cnntune_given = 0
        iterator._cnntune_sized = hasattr(loader.dataset, "__len__")
        iterator._cnntune_size = loader.batch_size

    def make(original: Any) -> Any:
        def call(self: Any) -> Any:
            given = getattr(self, "_cnntune_given", 0)
            if SEEN.cut_from is not None and given >= SHORT_PASS and SEEN.ours():
                if getattr(self, "_cnntune_sized", False):
                    SEEN.cuts += 1
                    raise StopIteration
            self._cnntune_given = given + 1
            batch = original(self)
            note_batch(batch, getattr(self, "_cnntune_size", None), torch)
            if given < FIRST_BATCHES and getattr(self, "_cnntune_pass", None):
                note_samples(batch, self._cnntune_pass, torch)
            return batch

        return call

    after(data.DataLoader, "__iter__", begin)
    around(data._BaseDataLoaderIter, "__next__", make)


# What a script writes


def redirected(path: Any, *, write: bool) -> Any:
    """A file of ours in place of the script's, unless it is to be read and is not there."""
    if SEEN.full or not isinstance(path, (str, os.PathLike)):
        return path
    name = f"saved-{zlib.crc32(os.path.abspath(os.fspath(path)).encode()):08x}"
    ours = os.path.join(SEEN.folder, name)
    if write:
        SEEN.count("saved", str(path))
        return ours
    earlier = os.path.join(SEEN.folder_before, name)
    return next((found for found in (ours, earlier) if os.path.exists(found)), path)


def redirect_saves(torch: Any) -> None:
    """Checkpoints go to a folder that is removed afterwards, and are read from there."""

    def saving(original: Any) -> Any:
        def call(thing: Any, f: Any, *args: Any, **keywords: Any) -> Any:
            return original(thing, redirected(f, write=True), *args, **keywords)

        return call

    def loading(original: Any) -> Any:
        def call(f: Any, *args: Any, **keywords: Any) -> Any:
            return original(redirected(f, write=False), *args, **keywords)

        return call

    around(torch, "save", saving)
    around(torch, "load", loading)


def redirect_safetensors(module: Any) -> None:
    """As `redirect_saves`, for the files of Hugging Face."""

    def saving(original: Any) -> Any:
        def call(tensors: Any, filename: Any, *args: Any, **keywords: Any) -> Any:
            return original(tensors, redirected(filename, write=True), *args, **keywords)

        return call

    around(module, "save_file", saving)


def redirect_lightning(module: Any) -> None:
    """Lightning writes its checkpoints by itself: none is written."""
    if not SEEN.full:
        around(module, "_atomic_save", lambda original: lambda *a, **k: None)


def redirect_tensorboard(module: Any) -> None:
    """Event files go to a folder that is removed afterwards."""

    def make(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            keywords["log_dir"] = tempfile.mkdtemp(prefix="events-", dir=SEEN.folder)
            return original(self, *args[1:], **keywords)

        return call

    if not SEEN.full:
        around(module.SummaryWriter, "__init__", make)
