"""Random weights that the forward pass uses, but that are not parameters of the model."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cnntune.findings import Finding
from cnntune.steps.sanity.record import WEIGHT_OPS, Observation
from cnntune.steps.sanity.subject import Subject
from cnntune.training.device import seeded

TRACED_IMAGES = 2  # only which tensors are multiplied matters


def untrained_tensors(subject: Subject) -> list[Finding]:
    """Random tensors, as buffers or plain attributes, that learned features are multiplied with.

    Tensors that do not change with the seed, such as a blur kernel, are constants on purpose; so
    are random projections of the images themselves.
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
    with (
        seeded(subject.recipe.seed, device=subject.device),
        _Multiplications(set(drawn)) as multiplications,
    ):
        model(subject.inputs[:TRACED_IMAGES])
    names = [drawn[storage] for storage in multiplications.found]
    if not names:
        return []
    count = sum(held[name].numel() for name in names)
    text = f"{count:,} weights are random and never trained: {', '.join(names[:3])}"
    advice = "make them an nn.Parameter; use buffers and plain tensors for constants only"
    return [Finding("trainable-parameters", "warn", text, advice, names[0], count, 0.0)]


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors of two axes or more that a model has in addition to its parameters."""
    for prefix, module in model.named_modules():
        if "parametrizations" in prefix:  # torch keeps the inputs of parametrised weights there
            continue
        for name, value in (vars(module) | dict(module.named_buffers(recurse=False))).items():
            if isinstance(value, Tensor) and value.ndim > 1 and value.is_floating_point():
                yield f"{prefix}.{name}".lstrip("."), value.detach()


class _Multiplications(Observation):
    """Records which of some tensors are multiplied with a tensor that requires a gradient."""

    def __init__(self, storages: set[int]) -> None:
        super().__init__()
        self.storages = storages
        self.found: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation; record its factors."""
        op = func.overloadpacket.__name__
        if op in (*WEIGHT_OPS, "bmm"):
            factors = args[1:3] if op == "addmm" else args[:2]
            storages = [tensor.untyped_storage().data_ptr() for tensor in factors]
            for storage, other in zip(storages, reversed(factors), strict=True):
                if storage in self.storages and storage not in self.found and other.requires_grad:
                    self.found.append(storage)
        return func(*args, **(kwargs or {}))
