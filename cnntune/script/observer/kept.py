"""Batches that are kept, and the experiments that are made with them at the end."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from typing import Any

from .graphs import same_up_to_a_factor
from .places import place
from .seen import SEEN, Kept, beside
from .tensors import copied, tensors_in

KEPT_BATCHES = 24
KEPT_BYTES = 2**26  # of batches that are kept for experiments
MAX_SHOWN_MODELS = 3
PROBE_SECONDS = 4.0
MAX_TARGET = 10**6  # values of a target that are kept
KEPT_WEIGHTS = 3 * 10**7  # of a model that is kept
USED = ("input", "target")


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
