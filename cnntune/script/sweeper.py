"""Tries learning rates in a training script's own loop, from inside its process.

As the package `observer`, which lies beside it, this file runs in the script's Python and needs the
standard library and `torch` alone. `site/sitecustomize.py` loads it in place of the observer.

At the first step of an optimizer the script waits, and tries what `cnntune/script/sweep.py` asks
for: files `try-NAME.json` in the folder of the command. How depends on the script (`method`):

fork    one child per learning rate, which continues the loop from the same weights, with the same
        batches and random numbers; on a CPU
rewind  the loop continues in this process; after enough steps the first weights and states are put
        back between two iterations, and the next learning rate begins, on the next batches
rerun   this process tries one learning rate, and ends

A learning rate is set before a step and the script's own put back after it, so that schedulers
continue undisturbed. It is that of the group with the highest: the others keep their ratio to it.
The factor of a schedule stays, relative to the highest learning rate so far: a warm-up is left out.

Each try appends a line per step to `curve-NAME.jsonl`: the loss, and a fingerprint of the data.
`done-NAME.json` tells how it ended.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import copy
import functools
import importlib.util
import io
import json
import math
import os
import random
import signal
import stat
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

POLL_SECONDS = 0.005  # between two looks for the next learning rate
ALIVE_SECONDS = 0.5  # between two looks whether cnntune still runs
VALUES = 256  # of a batch that make its fingerprint
NEXT_STAGE = 20  # steps of other optimizers in a row: the swept one has ended, as a fold does
MAX_NODES = 20_000  # of a graph that are followed
ABOVE_SEEDS = 1_000_003  # between the seeds of two repeats: no script uses seeds that far apart
RERUN, REWIND, FORK = "rerun", "rewind", "fork"


def _beside(name: str) -> Any:
    """The package in a folder beside this file."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    spec = importlib.util.spec_from_file_location(
        f"_cnntune_{name}_functions",
        os.path.join(folder, "__init__.py"),
        submodule_search_locations=[folder],
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


observer = _beside("observer")
redirect_safetensors = observer.redirect_safetensors
redirect_lightning = observer.redirect_lightning


class Result(NamedTuple):
    """A loss that was differentiated."""

    at: str
    loss: float
    factor: float  # the constants that it was multiplied with


class Loop:
    """The loop that learning rates are tried in, as far as this process has seen it."""

    def __init__(self) -> None:
        self.folder = os.environ.get("CNNTUNE_OUT") or "."
        self.repeat = int(os.environ.get("CNNTUNE_REPEAT") or 0)
        self.first_try = json.loads(os.environ.get("CNNTUNE_TRY") or "null")
        self.seconds = float(os.environ.get("CNNTUNE_SECONDS") or "inf")  # per learning rate
        self.processes = int(os.environ.get("CNNTUNE_PROCESSES") or 1)
        self.asked_method = os.environ.get("CNNTUNE_METHOD") or ""
        self.driver = int(os.environ.get("CNNTUNE_DRIVER") or 0)
        self.rank = int(os.environ.get("RANK") or 0)
        self.pid, self.thread = os.getpid(), threading.get_ident()
        self.server = 0  # the process that forked this one
        self.off = False  # a process that is none of ours
        self.inside = self.forking = self.stepping = False
        self.method = ""
        self.optimizers: list[Any] = []  # weak references
        self.made_at: dict[int, str] = {}  # optimizer: the user's line
        self.swept: Any = None
        self.reference = 0.0  # the highest learning rate of the swept optimizer's groups
        self.follows: dict[int, bool] = {}  # other optimizers: whether they step on the same loss
        self.between: set[int] = set()  # those of them that stepped between two steps of the swept
        self.alone = 0  # steps of others in a row
        self.stepped: set[int] = set()  # others, since the swept optimizer's step
        self.highest: dict[tuple[int, int], float] = {}  # of each group
        self.saved: list[Any] = []  # the script's own learning rates during a step
        self.warm_up = False
        self.name = ""  # of the try in this process; empty where there is none
        self.index = 0
        self.lr = 0.0
        self.iterations = self.count = 0
        self.started = 0.0
        self.due = False  # the first weights are to be put back
        self.results: dict[int, list[Result]] = {}  # optimizer: what its next step uses
        self.cleared: dict[int, list[Result]] = {}  # what was cleared instead
        self.complete = False  # what a closure computes again is not counted
        self.since_step = 0  # backward passes since the swept optimizer stepped
        self.scale = 1.0  # of mixed precision
        self.scalers: list[Any] = []
        self.depth = 0
        self.differentiating = False
        self.batches: list[int] = []  # fingerprints since the last step
        self.inputs: list[int] = []
        self.draws: list[int] = []  # of the probabilities that something was drawn from
        self.roots: dict[int, Any] = {}  # weak references to models
        self.kept: list[Callable[[], None]] = []  # each puts back a part of the first state
        self.errors: dict[str, str] = {}
        self.last_error = ""

    def ours(self) -> bool:
        """Whether a hook is to look: in the script's own thread, and not at what we do."""
        return not (
            self.off
            or self.inside
            or os.getpid() != self.pid
            or threading.get_ident() != self.thread
        )

    def path(self, kind: str, name: str, ending: str = "json") -> str:
        """`curve-0001.jsonl` in the folder of the command."""
        return os.path.join(self.folder, f"{kind}-{name}.{ending}")


LOOP = Loop()


def watching(hook: Callable[..., Any]) -> Callable[..., Any]:
    """What a hook raises is noted, and never reaches the script."""

    @functools.wraps(hook)
    def guarded(*args: Any, **keywords: Any) -> None:
        if not LOOP.ours():
            return
        LOOP.inside = True
        try:
            hook(*args, **keywords)
        except Exception as error:
            LOOP.errors.setdefault(hook.__name__, repr(error)[:300])
        finally:
            LOOP.inside = False

    return guarded


# The way to cnntune


def put(path: str, document: Any) -> None:
    """Write a file, whole or not at all."""
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.replace(f"{path}.{os.getpid()}", path)


def next_try(index: int) -> Any:
    """What is asked for next; None where nothing is yet, False where nothing follows."""
    try:
        with open(LOOP.path("try", f"{index:04d}"), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return False if os.path.exists(os.path.join(LOOP.folder, "stop")) else None


def driver_lives() -> bool:
    """Whether cnntune still runs; where its number means nothing here, it is believed to."""
    if not LOOP.driver or os.name != "posix":
        return True
    try:
        os.kill(LOOP.driver, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def append(line: dict[str, Any]) -> None:
    """A line of the curve that is being measured; of several ranks the first writes it."""
    if LOOP.rank == 0:
        with open(LOOP.path("curve", LOOP.name, "jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def leave() -> None:
    """End this process: nothing that the script catches or does at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or nobody reads it
            continue
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing else ():
        with contextlib.suppress(Exception):  # of the process that forked this one
            child.terminate()
    os._exit(0)


# The beginning of a sweep


def begin(optimizer: Any, torch: Any) -> None:
    """The first step of an optimizer: from here on, learning rates are tried."""
    try:
        LOOP.swept = optimizer
        LOOP.reference = max(base_rates(optimizer), default=0.0)
        LOOP.method, why = method(torch)
        if LOOP.rank == 0:
            if not claimed():
                while driver_lives():  # another process of the command is swept
                    time.sleep(ALIVE_SECONDS)
                leave()
            put(os.path.join(LOOP.folder, "ready.json"), about(optimizer, why))
        if LOOP.method == FORK:
            serve(torch)
        elif LOOP.method == REWIND:
            LOOP.kept = list(keep_state(torch))
            wait_for_try(0)
        else:
            begin_try(LOOP.first_try)
        keep_files_away()
    except Exception as error:
        put(os.path.join(LOOP.folder, "ready.json"), {"error": repr(error)[:300]})
        leave()


def about(optimizer: Any, why: str) -> dict[str, Any]:
    """What cnntune needs to know of the loop."""
    return {
        "method": LOOP.method,
        "why": why,
        "optimizer": type(optimizer).__name__,
        "at": LOOP.made_at.get(id(optimizer), ""),
        "lr": LOOP.reference,
        "has_lr": all(group.get("lr") is not None for group in optimizer.param_groups),
        "framework": observer.framework() or "plain",
    }


def claimed() -> bool:
    """Whether this process is the first of the command that came this far."""
    try:
        os.close(os.open(os.path.join(LOOP.folder, "claimed"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def method(torch: Any) -> tuple[str, str]:
    """How learning rates are tried in this process, and why not by a fork."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    devices = {p.device.type for o in living() for g in o.param_groups for p in g["params"]}
    if distributed or int(os.environ.get("WORLD_SIZE") or 1) > 1:
        return RERUN, "several processes train together"
    if LOOP.asked_method:
        return LOOP.asked_method, "it was asked for"
    if devices != {"cpu"}:
        return REWIND, f"the parameters are on {', '.join(sorted(devices - {'cpu'}))}"
    if not sys.platform.startswith("linux"):
        return RERUN, f"no safe fork on {sys.platform}"
    if torch.cuda.is_initialized():
        return RERUN, "CUDA was initialized"
    threads = [
        thread.name for thread in threading.enumerate() if thread is not threading.main_thread()
    ]
    if threads:
        return RERUN, f"threads are running: {', '.join(threads[:3])}"
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.active_children():
        return RERUN, "the script has child processes"
    return FORK, ""


def begin_try(asked: Any) -> None:
    """Try a learning rate in this process from here on."""
    LOOP.name, LOOP.lr, LOOP.iterations = asked["name"], asked["lr"], asked["iterations"]
    LOOP.count = 0
    LOOP.started = time.time()
    LOOP.highest = {}


def wait_for_try(index: int) -> None:
    """Wait until cnntune asks for a learning rate, and begin it; leave where it does not."""
    looked = time.time()
    while True:
        asked = next_try(index)
        if asked is False:
            leave()
        if asked is not None:
            LOOP.index = index
            begin_try(asked)
            return
        if time.time() - looked > ALIVE_SECONDS:
            looked = time.time()
            if not driver_lives():
                leave()
        time.sleep(POLL_SECONDS)


def serve(torch: Any) -> None:
    """Fork a child for each learning rate that is asked for; only the children return."""
    running: dict[int, tuple[str, float]] = {}  # process: name of the try, its start
    index, looked = 0, time.time()
    while True:
        for pid in list(running):
            reap(pid, running)
        asked = next_try(index) if len(running) < LOOP.processes else None
        if asked is False or (time.time() - looked > ALIVE_SECONDS and not driver_lives()):
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            leave()
        if time.time() - looked > ALIVE_SECONDS:
            looked = time.time()
        if not asked:
            time.sleep(POLL_SECONDS)
            continue
        index += 1
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        LOOP.forking = True
        pid = os.fork()
        LOOP.forking = False
        if pid == 0:
            LOOP.server, LOOP.pid = LOOP.pid, os.getpid()
            begin_try(asked)
            quiet_child(torch)
            return
        running[pid] = (asked["name"], time.time())


def reap(pid: int, running: dict[int, tuple[str, float]]) -> None:
    """Note how a child ended, or end it where its time is over."""
    name, started = running[pid]
    ended, status = os.waitpid(pid, os.WNOHANG)
    late = not ended and time.time() - started > LOOP.seconds
    if late:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if ended or late:
        del running[pid]
        if not os.path.exists(LOOP.path("done", name)):
            end = "time" if late else f"error: the process ended with status {status}"
            put(LOOP.path("done", name), {"end": end, "seconds": time.time() - started})


def quiet_child(torch: Any) -> None:
    """What a child does first: one thread, no output, files and exit handlers of its own."""
    torch.set_num_threads(1)  # the other threads of OpenMP did not survive the fork
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for descriptor in written_files():
        os.dup2(nowhere, descriptor)
    own_folder()
    atexit.register(at_exit)


def written_files() -> Iterator[int]:
    """The descriptors of ordinary files that the script has opened for writing only."""
    try:
        import fcntl

        found = [int(name) for name in os.listdir("/proc/self/fd")]
    except (ImportError, OSError):
        return
    for descriptor in found:
        try:
            mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            ordinary = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:
            continue
        if descriptor > 2 and ordinary and mode == os.O_WRONLY:
            yield descriptor


def own_folder() -> None:
    """A folder for the checkpoints of this try; what was saved before it is read from the old."""
    observer.SEEN.folder_before = observer.SEEN.folder
    observer.SEEN.folder = os.path.join(LOOP.folder, f"files-{LOOP.name}")
    os.makedirs(observer.SEEN.folder, exist_ok=True)


def keep_files_away() -> None:
    """From here on, what the script opens for writing goes to a folder that is removed."""
    real = builtins.open

    def opened(file: Any, mode: Any = "r", *args: Any, **keywords: Any) -> Any:
        if LOOP.ours() and isinstance(file, (str, os.PathLike)) and isinstance(mode, str):
            file = elsewhere(file, mode)
        return real(file, mode, *args, **keywords)

    builtins.open = opened
    io.open = opened


def elsewhere(file: Any, mode: str) -> Any:
    """Where a file is written and read in place of its own name."""
    path = os.path.abspath(os.fsdecode(file))
    if path.startswith(("/dev/", "/proc/", os.path.abspath(LOOP.folder) + os.sep)):
        return file
    if not any(letter in mode for letter in "wax+"):
        return observer.redirected(path, write=False)
    ours = observer.redirected(path, write=True)
    if ("a" in mode or "r" in mode) and os.path.exists(path) and not os.path.exists(ours):
        with io.FileIO(path) as old, io.FileIO(ours, "w") as new:
            new.write(old.readall())
    return ours


def note_crash(kind: Any, error: Any, trace: Any) -> None:
    """Remember what ends the script; before the first step, cnntune reports it."""
    found = observer.crash(kind, error, trace)
    at = found["frames"][-1].split(": ")[0] + ": " if found["frames"] else ""
    LOOP.last_error = f"{at}{found['error'].splitlines()[-1]}"[:300]
    if LOOP.swept is None:
        observer.note_crash(kind, error, trace)


def at_exit() -> None:
    """The script ended by itself, or by what it raised."""
    if LOOP.off or os.getpid() != LOOP.pid or not LOOP.name:
        return
    finish(f"error: {LOOP.last_error}" if LOOP.last_error else "ended")
    leave()


# One try


def base_rates(optimizer: Any) -> list[float]:
    """The learning rate of each group before any schedule."""
    groups = optimizer.param_groups
    return [float(group.get("initial_lr", group.get("lr")) or 0.0) for group in groups]


def set_rates(optimizer: Any) -> None:
    """The learning rates of a step: that of the try, in the ratios and factors of the script."""
    LOOP.saved = []
    if not LOOP.name or (optimizer is not LOOP.swept and not steps_on_the_same_loss(optimizer)):
        return
    LOOP.saved = [group.get("lr") for group in optimizer.param_groups]
    for index, (group, base) in enumerate(zip(optimizer.param_groups, base_rates(optimizer))):
        own = group.get("lr")
        if own is None:
            continue
        now, key = float(own), (id(optimizer), index)
        before = LOOP.highest.get(key, base)
        LOOP.warm_up = LOOP.warm_up or now > before or (key not in LOOP.highest and now < base)
        top = LOOP.highest[key] = max(now, LOOP.highest.get(key, now))
        ratio = base / LOOP.reference if LOOP.reference else 1.0
        value = LOOP.lr * ratio * (now / top if top else 1.0)
        if hasattr(own, "fill_"):
            LOOP.saved[index] = now
            own.fill_(value)
        else:
            group["lr"] = value


def put_rates_back(optimizer: Any) -> None:
    """The script's own learning rates, for its schedulers and its log."""
    for group, own in zip(optimizer.param_groups, LOOP.saved):
        if hasattr(group.get("lr"), "fill_") and own is not None:
            group["lr"].fill_(own)
        elif own is not None:
            group["lr"] = own
    LOOP.saved = []


def steps_on_the_same_loss(optimizer: Any) -> bool:
    """Whether another optimizer steps on the loss of the swept one: then it keeps its ratio."""
    number = id(optimizer)
    if number not in LOOP.follows:
        LOOP.follows[number] = LOOP.since_step == 0
    return LOOP.follows[number]


@watching
def before_step(optimizer: Any, torch: Any) -> None:
    """An optimizer is about to step."""
    if LOOP.swept is None:
        begin(optimizer, torch)
    if optimizer is LOOP.swept:
        LOOP.since_step = 0
        LOOP.stepping, LOOP.complete = True, False
    set_rates(optimizer)


@watching
def after_step(optimizer: Any) -> None:
    """An optimizer has stepped."""
    put_rates_back(optimizer)
    if not LOOP.name:
        return
    found = LOOP.results.pop(id(optimizer), []) or LOOP.cleared.pop(id(optimizer), [])
    LOOP.cleared.pop(id(optimizer), None)
    if optimizer is not LOOP.swept:
        LOOP.stepped.add(id(optimizer))
        LOOP.alone += 1
        if LOOP.alone >= NEXT_STAGE:
            finish("ended")
        return
    LOOP.between |= LOOP.stepped
    LOOP.stepped, LOOP.alone = set(), 0
    LOOP.stepping = LOOP.complete = False
    if LOOP.server and os.getppid() != LOOP.server:
        os._exit(0)  # whoever waits for this child is gone
    note_step(loss_of(found))


def note_step(loss: float) -> None:
    """A step of the swept optimizer, and the loss that it was made on."""
    append({"loss": loss, "batches": LOOP.batches, "inputs": LOOP.inputs, "draws": LOOP.draws})
    LOOP.batches, LOOP.inputs, LOOP.draws = [], [], []
    LOOP.count += 1
    if LOOP.count >= LOOP.iterations or not math.isfinite(loss):
        finish("done")
    elif time.time() - LOOP.started > LOOP.seconds:
        finish("time")


def loss_of(results: list[Result]) -> float:
    """The loss of a step: the mean over the micro-batches of a line, or the sum of all lines.

    The factors of accumulation and of mixed precision are divided out.
    """
    if not results:
        return math.nan
    total = sum(result.loss for result in results)
    factors = sum(abs(result.factor) for result in results)
    if len({result.at for result in results}) == 1 and factors:
        return total / factors
    return total / LOOP.scale


def finish(end: str) -> None:
    """The learning rate of this process has been tried."""
    if LOOP.rank == 0:
        own = [number for number in LOOP.between if not LOOP.follows.get(number)]
        document = {
            "end": end,
            "seconds": time.time() - LOOP.started,
            "warm_up": LOOP.warm_up,
            "own_losses": len(own),
            "errors": LOOP.errors,
        }
        put(LOOP.path("done", LOOP.name), document)
    LOOP.name = ""
    if LOOP.method != REWIND:
        leave()
    LOOP.due = True


# Putting back


def keep_state(torch: Any) -> Iterator[Callable[[], None]]:
    """The state of the loop before its first step, as functions that put it back."""
    tensors = {id(p): p for o in living() for g in o.param_groups for p in g["params"]}
    for reference in LOOP.roots.values():
        module = reference()
        for tensor in [*module.parameters(), *module.buffers()] if module is not None else ():
            tensors[id(tensor)] = tensor
    pairs = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]
    yield functools.partial(put_back_tensors, pairs)
    for optimizer in living():
        yield functools.partial(put_back_state, optimizer, copy.deepcopy(dict(optimizer.state)))
    for scaler in LOOP.scalers:
        yield functools.partial(scaler.load_state_dict, copy.deepcopy(scaler.state_dict()))
    yield functools.partial(torch.set_rng_state, torch.get_rng_state())
    yield functools.partial(random.setstate, random.getstate())
    if torch.cuda.is_initialized():
        yield functools.partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        yield functools.partial(numpy.random.set_state, numpy.random.get_state())


def put_back_tensors(pairs: list[tuple[Any, Any]]) -> None:
    """Weights and buffers."""
    for tensor, first in pairs:
        # `.data` has a version of its own: a graph that still holds the weights does not object.
        tensor.data.copy_(first)


def put_back_state(optimizer: Any, first: dict[Any, Any]) -> None:
    """The buffers of an optimizer, such as momentum; at its first step there are none as a rule."""
    optimizer.state.clear()
    optimizer.state.update(copy.deepcopy(first))


@watching
def perhaps_rewind() -> None:
    """Between two iterations: put the first state back, and wait for the next learning rate."""
    if not LOOP.due:
        return
    for put_one_back in LOOP.kept:
        put_one_back()
    LOOP.results, LOOP.cleared = {}, {}
    LOOP.batches, LOOP.inputs, LOOP.draws = [], [], []
    LOOP.due = False
    wait_for_try(LOOP.index + 1)


# What the hooks note


def living() -> list[Any]:
    """The optimizers that have not been deleted."""
    return [optimizer for ref in LOOP.optimizers if (optimizer := ref()) is not None]


def print_of(values: Any, torch: Any) -> int | None:
    """A number that is the same for the same values of the first tensor; None without one."""
    tensor = next((x for x in observer.tensors_in(values, torch) if x.numel()), None)
    if tensor is None:
        return None
    flat = tensor.detach().reshape(-1)
    few = flat[:: max(1, len(flat) // VALUES)][:VALUES].double().cpu()
    return zlib.crc32(few.numpy().tobytes())


@watching
def note_forward(module: Any, args: Any, keywords: Any, torch: Any) -> None:
    """A module is called that no other module calls."""
    if next(module.parameters(), None) is None:
        return
    LOOP.roots[id(module)] = weakref.ref(module)
    values = [*args, *keywords.values()]
    computed = any(x.requires_grad for x in observer.tensors_in(values, torch))
    found = None if computed else print_of(values, torch)  # what a network computed is no data
    if found is not None and found not in LOOP.inputs:
        LOOP.inputs.append(found)


@watching
def note_batch(batch: Any, torch: Any) -> None:
    """A loader has given a batch."""
    found = print_of([batch], torch)
    if found is not None:
        LOOP.batches.append(found)


@watching
def note_draw(probabilities: Any, torch: Any) -> None:
    """Something is drawn from probabilities, or from means."""
    found = print_of([probabilities], torch)
    if found is not None:
        LOOP.draws.append(found)


@watching
def note_optimizer(optimizer: Any) -> None:
    """An optimizer was made."""
    LOOP.optimizers.append(weakref.ref(optimizer))
    LOOP.made_at[id(optimizer)] = observer.place()


@watching
def note_cleared(parameters: list[Any] | None, optimizer: Any) -> None:
    """Gradients were cleared by an optimizer, or by a module with these parameters."""
    ids = {id(p) for p in parameters or ()}
    for other in living():
        held = (p for group in other.param_groups for p in group["params"])
        if other is optimizer or any(id(p) in ids for p in held):
            forget(other)


def forget(optimizer: Any) -> None:
    """The losses so far are not those of the next step."""
    found = LOOP.results.get(id(optimizer))
    if not found:
        return
    if optimizer is LOOP.swept and LOOP.stepping:
        LOOP.complete = True  # a closure begins again: the first loss is that of the step
        return
    LOOP.cleared[id(optimizer)] = LOOP.results.pop(id(optimizer))


@watching
def note_backward(loss: Any, torch: Any) -> None:
    """A loss is about to be differentiated."""
    LOOP.since_step += 1
    if LOOP.complete:
        return
    value = float(loss.detach().float().mean())
    factor = observer.constant_factor(loss.grad_fn, torch) if loss.grad_fn is not None else 1.0
    result = Result(observer.place(), value, factor)
    for optimizer in reached(loss, torch):
        grads = (p.grad for group in optimizer.param_groups for p in group["params"])
        if all(grad is None for grad in grads):
            forget(optimizer)
        LOOP.results.setdefault(id(optimizer), []).append(result)
        # Mixed precision skips the step after infinite gradients: no step may follow.
        if optimizer is LOOP.swept and LOOP.name and not math.isfinite(value):
            note_step(value)


def reached(loss: Any, torch: Any) -> list[Any]:
    """The optimizers of the parameters that a loss depends on."""
    optimizers = living()
    if len(optimizers) < 2 or loss.grad_fn is None:
        return optimizers
    seen, stack, leaves = {loss.grad_fn}, [loss.grad_fn], set()
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.add(id(leaf))
        for other, _ in node.next_functions:
            if other is not None and other not in seen:
                seen.add(other)
                stack.append(other)
    return [
        optimizer
        for optimizer in optimizers
        if any(id(p) in leaves for group in optimizer.param_groups for p in group["params"])
    ]


@watching
def note_scaled(scaler: Any) -> None:
    """A loss was scaled for mixed precision."""
    if scaler.is_enabled():
        LOOP.scale = float(scaler.get_scale())
        if not any(known is scaler for known in LOOP.scalers):
            LOOP.scalers.append(scaler)


# The hooks


def install(torch: Any) -> None:
    """Put the hooks into torch; called once, right after its import."""
    put(LOOP.path("torch", str(os.getpid())), {})
    hook_seeds(torch)
    hook_modules(torch)
    observer.hook_backward(torch, LOOP, note_backward)
    hook_optimizers(torch)
    hook_loaders(torch)
    for name in ("multinomial", "bernoulli", "normal"):
        for owner in (torch, torch.Tensor):
            observer.before(owner, name, lambda first=None, *a, **k: note_draw(first, torch))
    scaler = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
    observer.after(scaler, "scale", lambda _, self, *a, **k: note_scaled(self))
    observer.redirect_saves(torch)
    atexit.register(at_exit)
    os.register_at_fork(after_in_child=forked)


def forked() -> None:
    """In the child of a fork: where the script made it, nothing is to be seen there."""
    LOOP.off = LOOP.off or not LOOP.forking


def shifted(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes a seed, with the seed of this repeat."""

    @functools.wraps(original)
    def call(seed: Any = None, *args: Any, **keywords: Any) -> Any:
        if isinstance(seed, int) and LOOP.repeat:
            seed = (seed + LOOP.repeat * ABOVE_SEEDS) % 2**32
        return original(seed, *args, **keywords)

    return call


def hook_seeds(torch: Any) -> None:
    """The same random numbers in each run; other ones in each repeat, also where there are seeds.

    Those of Python are set where this file is loaded, those of numpy after its import.
    """
    torch.manual_seed(LOOP.repeat)
    for owner in (torch, torch.random):
        owner.manual_seed = shifted(owner.manual_seed)


def seed_python() -> None:
    """As `hook_seeds`, for the random numbers of Python."""
    random.seed(LOOP.repeat)
    random.seed = shifted(random.seed)


@watching
def note_choice(*_args: Any, **keywords: Any) -> None:
    """As `note_draw`, for numpy."""
    torch = sys.modules.get("torch")
    if torch is not None and keywords.get("p") is not None:
        LOOP.draws.append(print_of([torch.as_tensor(keywords["p"])], torch) or 0)


def seed_numpy(numpy: Any) -> None:
    """As `hook_seeds`, for those of numpy, also of generators without a seed."""
    numpy.random.seed(LOOP.repeat)
    numpy.random.seed = shifted(numpy.random.seed)
    observer.before(numpy.random, "choice", note_choice)
    original, made = numpy.random.default_rng, [0]

    @functools.wraps(original)
    def default_rng(seed: Any = None) -> Any:
        if seed is None:
            made[0] += 1
            seed = [LOOP.repeat, made[0]]
        return original(seed)

    numpy.random.default_rng = default_rng


def hook_modules(torch: Any) -> None:
    """Forward passes that no other module called."""

    def make(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            if LOOP.depth or LOOP.differentiating or not LOOP.ours():
                return original(self, *args, **keywords)
            perhaps_rewind()
            note_forward(self, args, keywords, torch)
            LOOP.depth = 1
            try:
                return original(self, *args, **keywords)
            finally:
                LOOP.depth = 0

        return call

    observer.around(torch.nn.Module, "__call__", make)
    observer.before(
        torch.nn.Module, "zero_grad", lambda m, *a, **k: note_cleared(list(m.parameters()), None)
    )


def hook_optimizers(torch: Any) -> None:
    """Optimizers: made, cleared, stepped."""
    kind = sys.modules["torch.optim.optimizer"]  # `torch.optim` deletes the name
    observer.after(kind.Optimizer, "__init__", lambda _, self, *a, **k: note_optimizer(self))
    observer.after(kind.Optimizer, "zero_grad", lambda _, self, *a, **k: note_cleared(None, self))
    kind.register_optimizer_step_pre_hook(lambda o, a, k: before_step(o, torch))
    kind.register_optimizer_step_post_hook(lambda o, a, k: after_step(o))


def hook_loaders(torch: Any) -> None:
    """Batches; on a CPU they are loaded by the process itself, which workers keep from forking."""
    data = torch.utils.data.dataloader

    def make(original: Any) -> Any:
        def call(self: Any) -> Any:
            perhaps_rewind()
            batch = original(self)
            note_batch(batch, torch)
            return batch

        return call

    observer.around(data._BaseDataLoaderIter, "__next__", make)
    observer.before(data.DataLoader, "__iter__", lambda loader: without_workers(loader, torch))


@watching
def without_workers(loader: Any, torch: Any) -> None:
    """A loader whose batches come from the process itself, unless an accelerator computes."""
    devices = {p.device.type for o in living() for g in o.param_groups for p in g["params"]}
    if loader.num_workers and not torch.cuda.is_initialized() and devices <= {"cpu"}:
        settings = {"num_workers": 0, "prefetch_factor": None, "timeout": 0}
        loader.__dict__.update(settings, persistent_workers=False)


# What other libraries start or write


def quiet_bars(module: Any) -> None:
    """No thread that wakes up slow bars: it would keep the script from forking."""
    module.tqdm.monitor_interval = 0


class NoEvents:
    """In place of TensorBoard's writer, whose thread does not survive a fork."""

    def __init__(self, *_args: Any, **_keywords: Any) -> None:
        pass

    def get_logdir(self) -> str:
        """Some folder."""
        return LOOP.folder

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Every method does nothing."""
        return lambda *args, **keywords: None


def redirect_tensorboard(module: Any) -> None:
    """No event file is written."""
    module.FileWriter = NoEvents


seed_python()
