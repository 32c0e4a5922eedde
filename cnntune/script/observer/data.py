"""What the hooks note of loaders and of states that are loaded."""

from __future__ import annotations

from typing import Any

from .places import place
from .seen import SEEN, watching
from .tensors import row_prints, same_memory, sample, tensors_in

MAX_IN_BATCH = 8  # tensors
MAX_LOADED = 64  # weights of a state that are compared with those of the first forward pass


@watching
def note_pass(loader: Any) -> dict[str, Any]:
    """A pass over a loader begins."""
    SEEN.passes += 1
    SEEN.validating = SEEN.validating or SEEN.unlearned > 0
    SEEN.unlearned = 0
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
    fitting = [key for key in state if key in own]
    SEEN.event(
        "loaded",
        module=SEEN.numbers.of(module),
        given=len(state),
        fitting=len(fitting),
        name=next(iter(state), ""),
        own=next(iter(own), ""),
        at=place(),
    )
    if SEEN.numbers.of(module) in SEEN.roots:
        return  # a state that is put back
    named = [(p, state[key]) for key, p in module.named_parameters() if key in state]
    fresh = [(p, v) for p, v in named if p.dim() > 1 and p.is_floating_point() and not p.is_meta]
    for p, value in fresh[:MAX_LOADED]:
        if tuple(value.shape) == tuple(p.shape):
            SEEN.loaded[SEEN.numbers.of(p)] = sample(value), place()


def note_first_weights(parameters: list[Any], torch: Any) -> None:
    """How alike the weights of a first forward pass and those are that were loaded before."""
    known = [(p, *SEEN.loaded.pop(number)) for p in parameters
             if (number := SEEN.numbers.of(p)) in SEEN.loaded]  # fmt: skip
    told = [(sample(p), old, at) for p, old, at in known if bool(old.any())]
    if told:
        alike = [float(torch.cosine_similarity(now, old, dim=0)) for now, old, _ in told]
        SEEN.event("first weights", alike=alike, values=sum(len(now) for now, _, _ in told),
                   at=told[-1][2])  # fmt: skip
