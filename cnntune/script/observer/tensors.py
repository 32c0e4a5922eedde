"""Fingerprints and statistics of tensors."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

MAX_ROWS = 256  # of a batch that are recognized again
RICH = 0.3  # share of values that differ, in samples of measured numbers
WIDE = 32  # values of a sample
WIDE_ROW = 8  # values of a sample of numbers, below which states of a small world repeat
LEVELS = 8  # of gray, in images
MAX_PRINTED = 4  # inputs that tell samples apart
VALUES = 64  # of a row that make its fingerprint


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


def labelled_rows(event: dict[str, Any], inputs: list[Any], torch: Any) -> list[int]:
    """The samples of a pass whose labels are compared; none where samples are equal by chance."""
    rows = event.get("rows") or []
    width = math.prod(event.get("shape", [0])[1:])
    if width < WIDE_ROW or not event["grad"] or not inputs[0].dim() or len(rows) != len(inputs[0]):
        return []
    if not rich(inputs[0], torch):
        return []
    return whole_rows(rows, inputs, torch)


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


def differs(tensor: Any) -> bool:
    """Whether a tensor holds more than one value: no first state of zeros, no mask of ones."""
    values = tensor.detach().reshape(-1)
    return bool((values != values[0]).any())


def averages(parts: list[Any]) -> list[float]:
    """A few numbers that change when the running averages of batch norm do."""
    norms = [part for part in parts if getattr(part, "running_var", None) is not None]
    return [float(few_values(n.running_mean).double().abs().sum()) for n in norms[:4]] + [
        float(few_values(n.running_var).double().sum()) for n in norms[:4]
    ]


def few_values(tensor: Any) -> Any:
    """The first values of a tensor, as a copy."""
    found = tensor.detach()
    while found.dim() > 1:
        found = found[0]
    return (found[:8] if found.dim() else found).clone()


def sample(tensor: Any) -> Any:
    """Values from all of a tensor, as a copy of numbers on the CPU."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, len(flat) // VALUES)][:VALUES].float().cpu().clone()


def look(parameters: list[Any]) -> list[float]:
    """A few numbers that change when the parameters do, for a model of any size."""
    spread = parameters[:: max(1, len(parameters) // 8)][:8]
    return [float(few_values(parameter).double().sum()) for parameter in spread]


def copied(value: Any, torch: Any) -> Any:
    """A copy of the tensors in arguments."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(entry, torch) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(entry, torch) for entry in value)
    return value


def same_memory(one: Any, other: Any) -> bool:
    """Whether two tensors share their values."""
    return hasattr(other, "data_ptr") and one.data_ptr() == other.data_ptr() and one is not None
