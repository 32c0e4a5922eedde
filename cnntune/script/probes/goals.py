"""Whether the outputs go where the targets are."""

from __future__ import annotations

from typing import Any

from .answers import Shown, answers, mapped, same, walked


def agreement(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How often the largest output is the label, or how outputs and target images go together."""
    right = rows = 0.0
    parts = []
    for shown in train[-8:]:
        output = answers(model, shown, same, torch)
        for target in shown.targets(torch):
            if output is None or len(output) != len(target):
                continue
            if output.dim() == 2 and output.shape[1] > 1 and target.dim() == 1:
                if not target.is_floating_point():
                    # Of a loss, or numbers of all classes: no lengths, no numbers of samples.
                    low, high = int(target.min()), int(target.max())
                    if low == 0 and high == output.shape[1] - 1:
                        right += int((output.argmax(1) == target).sum())
                        rows += len(target)
                        break
            elif output.dim() >= 3 and output.numel() == target.numel():
                parts.append((output.reshape(-1), target.detach().float().reshape(-1)))
                break
    if rows:
        kinds = output.shape[1]
        return {"accuracy": right / rows, "rows": int(rows), "classes": int(kinds)}
    if parts:
        pair = torch.stack([torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])])
        if float(pair.std(1).min()) > 0:
            return {"correlation": float(torch.corrcoef(pair)[0, 1]), "values": pair.shape[1]}
    return None


def pairs(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How far apart two kinds of pairs are, in the inputs and in what the model returns.

    The kinds are those of a label that each pair has, or the two pairs of a triple.
    """
    inside: list[list[Any]] = [[], []]
    outside: list[list[Any]] = [[], []]
    for shown in train[-16:]:
        inputs = [t for t in shown.tensors(torch) if t.is_floating_point()]
        if not 2 <= len(inputs) <= 3 or len({t.shape for t in inputs}) > 1:
            continue
        args, keywords = mapped(shown.args, same, torch), mapped(shown.keywords, same, torch)
        with torch.no_grad():
            output = list(walked(model(*args, **keywords), torch))
        if len(output) != len(inputs) or len({t.shape for t in output}) > 1:
            continue
        if output[0].dim() != 2 or len(output[0]) != len(inputs[0]):
            continue
        gaps = [
            [(group[0] - other).reshape(len(other), -1).norm(dim=1).float() for other in group[1:]]
            for group in (inputs, output)
        ]
        if len(inputs) == 3:
            for kind in (0, 1):
                inside[kind].append(gaps[0][kind])
                outside[kind].append(gaps[1][kind])
            continue
        label = two_kinds([*shown.others, shown.target], len(output[0]), torch)
        if label is not None:
            for kind, chosen in enumerate((label == label.min(), label != label.min())):
                inside[kind].append(gaps[0][0][chosen])
                outside[kind].append(gaps[1][0][chosen])
    if not inside[0]:
        return None
    (a, b), (c, d) = map(torch.cat, inside), map(torch.cat, outside)
    if min(len(a), len(b)) < 2:
        return None
    return {"inputs": apart(a, b), "outputs": apart(c, d), "pairs": len(a) + len(b)}


def two_kinds(values: list[Any], count: int, torch: Any) -> Any:
    """The first tensor with one value per sample that is one of two."""
    for value in values:
        if value is not None and value.numel() == count and len(torch.unique(value)) == 2:
            return value.reshape(-1)
    return None


def apart(one: Any, other: Any) -> float:
    """The difference of two means in standard deviations."""
    spread = ((one.var() + other.var()) / 2).sqrt().clamp_min(1e-12)
    return float((other.mean() - one.mean()) / spread)
