"""Training beside validation inputs, and columns that tell the target."""

from __future__ import annotations

from typing import Any

from .answers import Shown
from .pictures import MIN_SIDE

MAX_COLUMNS = 4096
MIN_OF_CLASS = 5  # samples
MAX_CLASSES = 50
EXACT = 1e-3  # of the standard deviation of a column, of what the target does not tell


def scales(train: list[Shown], validation: list[Shown], torch: Any) -> dict[str, Any] | None:
    """Mean and standard deviation of the inputs of both sets, where loaders gave them."""

    def values(batches: list[Shown]) -> list[Any]:
        found: list[Any] = []
        for shown in batches:
            first = shown.tensors(torch)[0]
            if shown.size is not None and first.is_floating_point() and first.dim() > 1:
                found.append(first.detach().float().cpu())
        return found

    ours, others = values(train), values(validation)
    if not ours or not others or {t.shape[1:] for t in ours} != {t.shape[1:] for t in others}:
        return None
    if len({t.shape[1:] for t in ours}) > 1:
        return None
    one, other = torch.cat(ours), torch.cat(others)
    return {
        "rows": [len(one), len(other)],
        "train": [float(one.mean()), float(one.std())],
        "validation": [float(other.mean()), float(other.std())],
    }


def columns(train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """An input that the target tells: the same but for a factor, or one number for each class."""
    inputs: list[Any] = []
    targets: list[Any] = []
    for shown in train:
        first, found = shown.tensors(torch)[0], shown.targets(torch)
        if not first.is_floating_point() or first.dim() < 2 or not found:
            continue
        rows, target = first.detach().float().cpu().reshape(len(first), -1), found[0]
        if target.numel() == len(rows) and rows.shape[1] <= MAX_COLUMNS:
            if not inputs or inputs[0].shape[1] == rows.shape[1]:
                inputs.append(rows)
                targets.append(target.detach().cpu().reshape(-1))
    if not inputs:
        return None
    rows, target = torch.cat(inputs), torch.cat(targets)
    rows, target = different(rows, target, torch)
    about = {"rows": len(rows), "of": rows.shape[1]}
    spread = rows.std(0)
    kinds, counts = torch.unique(target, return_counts=True)
    if len(kinds) < 2 or len(rows) < 2 * MIN_SIDE:
        return None
    if len(kinds) <= MAX_CLASSES and bool((kinds == kinds.round()).all()):
        if int(counts.min()) < MIN_OF_CLASS:
            return None
        inside = torch.stack([rows[target == kind].std(0, unbiased=False) for kind in kinds])
        told = (inside.amax(0) < EXACT * spread) & (spread > 0)
        how = "it is one number for each class"
    else:
        values = target.float()
        values = (values - values.mean()) / values.std(unbiased=False)
        apart = rows - rows.mean(0)
        slope = (apart * values[:, None]).mean(0)
        left = (apart - slope * values[:, None]).std(0)
        told = (left < EXACT * spread) & (spread > 0)
        how = "it is the target, times a number"
    if not bool(told.any()):
        return None
    return {**about, "column": int(told.float().argmax()), "how": how}


def different(rows: Any, target: Any, torch: Any) -> Any:
    """Each row once, with its target: the same few samples many times say no more than once."""
    _, group = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(rows), dtype=torch.long)
    first.scatter_reduce_(0, group, torch.arange(len(rows)), reduce="amin")
    return rows[first], target[first]
