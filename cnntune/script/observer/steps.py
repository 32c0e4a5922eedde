"""What the hooks note of backward passes, optimizers and schedulers."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from typing import Any

from .graphs import (
    MARK,
    balance,
    bare,
    constant_factor,
    is_negative,
    joined,
    leaf_tensors,
    note_parameter,
    spread,
    summed,
    walk,
)
from .kept import keep_optimizer, keep_step
from .places import framework, is_theirs, place
from .seen import SEEN, Optimizer, beside, watching
from .tensors import few_values

COMPARED = 4  # parameters
MAX_LEAVES = 64  # of a loss, of which a few values are compared


@watching
def note_backward(loss: Any, torch: Any) -> None:
    """A loss is about to be differentiated."""
    at = place()
    deep = SEEN.deep(SEEN.backwards.get(at, 0))  # of each line: a student's after its teacher's
    SEEN.backwards[at] = SEEN.backwards.get(at, 0) + 1
    living = [optimizer for _, optimizer in living_optimizers()]
    event = SEEN.event("backward", at=at, size=loss.numel(), leaf=loss.grad_fn is None)
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
            event["joined"] = joined(loss.grad_fn)
            event["balance"] = balance(loss.grad_fn, torch)
            event["terms"] = beside("signs").terms(loss.grad_fn, bare, MARK, is_negative, torch)
        keep_step(loss, torch)
    SEEN.answers.clear()
    if SEEN.scaled:
        event["scaled"] = True
    for number, optimizer in living_optimizers():
        known = SEEN.optimizers[number]
        if not known.cleared and not any_gradient(optimizer, torch):
            known.clear()
        known.results.append({"at": event["at"], "look": SEEN.steps, "event": len(SEEN.events) - 1})
    if not SEEN.steps and deep and loss.grad_fn is not None:
        SEEN.moved = SEEN.moved or moved(leaf_tensors(loss.grad_fn))


def moved(leaves: list[Any]) -> bool:
    """Whether what is trained changes although nothing steps, by hand or by a class of the script.

    Its tensors have other values than at a pass before, or all of them are new ones.
    """
    before, now = SEEN.unstepped, {SEEN.numbers.of(p): few_values(p) for p in leaves[:MAX_LEAVES]}
    SEEN.unstepped = {**before, **now}
    if before and now and not before.keys() & now.keys():
        return True
    return any(bool((now[n] != before[n]).any()) for n in before.keys() & now.keys())


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
    if not known.steps or SEEN.passes:
        known.event["reset"] = was_reset(held)
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
    SEEN.passes = SEEN.unlearned = 0
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
        entry["none"] += p.grad is None and p.requires_grad  # others are frozen, and meant to be
        entry["zero"] += id(p) in zero
    return {"norm": sum(norm * norm for norm in values) ** 0.5, "zero": len(zero)}


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
