"""Weights that work in the forward pass, drawn at random, and that no optimizer knows."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnntune.findings import Finding
from cnntune.steps.sanity.record import WEIGHT_OPS
from cnntune.steps.sanity.subject import Subject
from cnntune.training.device import seeded

FEW = 2  # images: only which tensors meet is looked at


def unlearned(subject: Subject) -> list[Finding]:
    """Random tensors, buffers or plain attributes, that learned features are multiplied with.

    What another draw leaves as it is, such as a blur, is made on purpose; so are random projections
    of the images themselves.
    """
    model = subject.untrained
    held = dict(_held(model))
    if not held:
        return []
    others = dict(_held(subject.model(draw=1)))
    drawn = {
        tensor.untyped_storage().data_ptr(): name
        for name, tensor in held.items()
        if name in others and not torch.equal(tensor, others[name])
    }
    if not drawn:
        return []
    with seeded(subject.recipe.seed, device=subject.device), _Meeting(set(drawn)) as meeting:
        model(subject.inputs[:FEW])
    names = [drawn[place] for place in meeting.met]
    if not names:
        return []
    count = sum(held[name].numel() for name in names)
    text = f"{count:,} weights start at random and are never trained: {', '.join(names[:3])}"
    advice = "make them an nn.Parameter; buffers and plain tensors are for what stays as it is"
    return [Finding("trainable-parameters", "warn", text, advice, names[0], count, 0.0)]


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors of two axes or more that a model holds beside its parameters."""
    for prefix, module in model.named_modules():
        if "parametrizations" in prefix:  # torch keeps there what weights are made with
            continue
        for name, value in (vars(module) | dict(module.named_buffers(recurse=False))).items():
            if isinstance(value, Tensor) and value.ndim > 1 and value.is_floating_point():
                yield f"{prefix}.{name}".lstrip("."), value.detach()


class _Meeting(TorchDispatchMode):
    """Notes which of some tensors meet, in an operation with weights, one that has a gradient."""

    def __init__(self, places: set[int]) -> None:
        super().__init__()
        self.places = places
        self.met: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation; look at what it multiplies."""
        op = func.overloadpacket.__name__
        if op in (*WEIGHT_OPS, "bmm"):
            factors = args[1:3] if op == "addmm" else args[:2]
            places = [tensor.untyped_storage().data_ptr() for tensor in factors]
            for place, other in zip(places, reversed(factors), strict=True):
                if place in self.places and place not in self.met and other.requires_grad:
                    self.met.append(place)
        return func(*args, **(kwargs or {}))
