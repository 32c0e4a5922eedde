"""What a model is made of: frozen parameters, equal units, layers that differ in eval mode."""

from __future__ import annotations

import zlib
from typing import Any

from .seen import SEEN
from .tensors import few_values

ALIKE = 1e-5  # of the largest weight: units that are the same but for rounding
EVEN_VALUES = 128  # of a weight, to tell whether they are spread evenly
EVEN = 0.1  # of the bound: 3 standard errors of the spread of so many values


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
