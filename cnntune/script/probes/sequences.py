"""What follows in a sequence, and padding at its end."""

from __future__ import annotations

from typing import Any

from .answers import Shown, answers, repeats, rounding, same
from .batches import MIN_ROWS

MIN_LENGTH = 4  # of a sequence
SHIFTED = 0.95  # share of the targets that equal the next input, for a model of the next one


def next_inputs(shown: Shown, torch: Any) -> tuple[int, int] | None:
    """Which argument, along which dimension, has targets that are its next values.

    The targets are those of a loss, of a loader, or another argument of a model that computes its
    own loss; such a model may also shift `labels` by itself.
    """
    inputs = shown.tensors(torch)
    told = ([shown.target] if shown.target is not None else []) + shown.others + inputs[1:]
    for index, given in enumerate(inputs):
        for target in told if given.dim() >= 2 else []:
            if target is given or target.numel() != given.numel() or target.dtype != given.dtype:
                continue
            wanted = target.reshape(given.shape)
            for dim in (1, 0):
                last = given.shape[dim] - 1
                if last + 1 >= MIN_LENGTH and varies(given, dim):
                    if equal(given.narrow(dim, 1, last), wanted.narrow(dim, 0, last)):
                        return index, dim
    labels = shown.keywords.get("labels") if type(shown.keywords) is dict else None
    for index, given in enumerate(inputs):
        if labels is not None and labels is not given and labels.shape == given.shape:
            whole = given.dim() == 2 and float((labels >= 0).float().mean()) > 0.5
            if whole and equal(given, labels) and varies(given, 1):
                return index, 1
    return None


def equal(given: Any, told: Any) -> bool:
    """Whether nearly all targets equal the values; labels below 0 do not count."""
    kept = told == told if told.is_floating_point() else told >= 0
    same_values = (given == told)[kept]
    return bool(same_values.numel()) and float(same_values.float().mean()) > SHIFTED


def varies(given: Any, dim: int) -> bool:
    """Whether neighbours along a dimension usually differ."""
    length = given.shape[dim]
    one, other = given.narrow(dim, 1, length - 1), given.narrow(dim, 0, length - 1)
    return float((one != other).float().mean()) > 0.2


def future(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """Change the second half of sequences whose next values are wanted: what happens before it?"""
    for shown in reversed(train):
        found = next_inputs(shown, torch)
        if found is not None:
            return changed_later(model, shown, *found, torch)
    return None


def changed_later(
    model: Any, shown: Shown, index: int, dim: int, torch: Any
) -> dict[str, Any] | None:
    """The shares of the answers in either half that change with the inputs of the second."""
    given = shown.tensors(torch)[index]
    length = given.shape[dim]
    half = length // 2
    before = answers(model, shown, same, torch)
    if before is None or not bool(torch.isfinite(before).all()):
        return None
    shape = before.shape
    if tuple(before.shape[:2]) != tuple(given.shape[:2]):
        if len(before) != given.numel():
            return None
        before = before.reshape(*given.shape[:2], -1)

    if not repeats(model, shown, before.reshape(shape), rounding(before, torch), torch):
        return None

    def later(tensor: Any) -> Any:
        changed = tensor.clone()
        if tensor is given:
            part = changed.narrow(dim, half, length - half)
            part.copy_(part.flip(dim).roll(1, 1 - dim))
        return changed

    after = answers(model, shown, later, torch).reshape(before.shape)
    gap = (after - before).abs() > rounding(before, torch)
    return {
        "early": float(gap.narrow(dim, 0, half).float().mean()),
        "late": float(gap.narrow(dim, half, length - half).float().mean()),
        "length": length,
    }


def padding(train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How much of the targets is one value that is repeated at the end of rows."""
    for shown in reversed(train):
        target = shown.target
        tokens = [t for t in shown.tensors(torch) if t.dim() == 2 and not t.is_floating_point()]
        if target is None or target.is_floating_point() or not tokens:
            continue
        count, length = tokens[-1].shape
        if target.numel() != count * length or length < MIN_LENGTH or count < MIN_ROWS:
            continue
        wanted = target.reshape(count, length)
        ends = wanted[:, -1]
        value = torch.mode(ends).values
        tail = ((wanted == value).flip(1).long().cumprod(1).sum(1)).float()
        padded = tail >= 2
        later = torch.arange(length, device=tail.device) > length - tail[:, None]
        behind = tokens[-1][later & padded[:, None]]
        if (
            not behind.numel()
            or float((behind == torch.mode(behind).values).float().mean()) < SHIFTED
        ):
            return None  # labels that are alike, of tokens that are not
        return {
            "value": int(value),
            "rows": float(padded.float().mean()),
            "share": float((tail * padded).sum()) / target.numel(),
        }
    return None
