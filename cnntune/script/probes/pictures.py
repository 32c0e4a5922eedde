"""How images are stored, and whether masks follow them."""

from __future__ import annotations

from typing import Any

from .answers import Shown, answers, same

MIN_SIDE = 8  # pixels of an image
MAX_SAMPLES = 256  # that are looked at
MAX_CLASSES = 32  # values of a mask
DECIDED = 1.5  # times the second best fit
FIT = 0.05  # squared correlation from which an image shows what its mask outlines


def images(train: list[Shown], torch: Any) -> Any:
    """The images that a model got, of one size; None where it got none."""
    found: list[Any] = []
    for shown in train:
        first = shown.tensors(torch)[0]
        if first.dim() == 4 and first.is_floating_point() and min(first.shape[2:]) >= MIN_SIDE:
            if not found or found[0].shape[1:] == first.shape[1:]:
                found.append(first.detach().float().cpu())
    return torch.cat(found)[:MAX_SAMPLES] if found else None


def pictures(train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How alike neighbours are, as the images are read and as they would be channels last."""
    seen = images(train, torch)
    if seen is None or len(seen) < 2 * MIN_SIDE:
        return None
    _, channels, _, width = seen.shape
    flat = (seen - seen.mean(0)).reshape(len(seen), -1)
    power = float((flat * flat).mean())
    if not power > 0:
        return None

    def alike(lag: int) -> float:
        return float((flat[:, :-lag] * flat[:, lag:]).mean()) / power

    found: dict[str, Any] = {"shape": list(seen.shape[1:]), "samples": len(seen)}
    if 2 <= channels <= 4:
        found["read"] = [alike(1), alike(width)]
        found["last"] = [alike(channels), alike(width * channels)]
    levels, counts = torch.unique(seen, return_counts=True)
    if 32 <= len(levels) <= 256:
        low, high = float(levels[0]), float(levels[-1])
        place = (levels - low) / (high - low)
        share = counts.float() / counts.sum()
        found["ends"] = [float(share[place < 0.25].sum()), float(share[place > 0.75].sum())]
        found["middle"] = float(share[(place > 0.35) & (place < 0.65)].sum())
        found["extremes"] = [float(share[0]), float(share[-1])]
        found["levels"] = len(levels)
    return found


def edges(seen: Any) -> Any:
    """Where values change, of images `[N, H, W]`."""
    found = seen.new_zeros(seen.shape)
    found[:, :, :-1] += (seen[:, :, 1:] - seen[:, :, :-1]).abs()
    found[:, :-1] += (seen[:, 1:] - seen[:, :-1]).abs()
    return found


def fit(one: Any, other: Any) -> Any:
    """The squared correlation of two images, for each pair."""
    first, second = one.reshape(len(one), -1), other.reshape(len(other), -1)
    first = first - first.mean(1, keepdim=True)
    second = second - second.mean(1, keepdim=True)
    norm = (first.norm(dim=1) * second.norm(dim=1)).clamp_min(1e-12)
    return ((first * second).sum(1) / norm) ** 2


def is_mask(target: Any, torch: Any) -> bool:
    """Whether values are classes of pixels, and no other view of an image."""
    if target.is_floating_point():
        return bool(((target == 0) | (target == 1)).all())
    return target.dtype == torch.bool or len(torch.unique(target)) <= MAX_CLASSES


def outlines(model: Any, train: list[Shown], torch: Any) -> bool:
    """Whether the model answers with a value for each pixel, or each block of them."""
    with_images = [one for one in train if one.tensors(torch)[0].dim() == 4]
    found = answers(model, with_images[0], same, torch) if with_images else None
    return found is not None and found.dim() >= 3 and min(found.shape[-2:]) >= MIN_SIDE


def flips(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """Does a mask fit its image better mirrored than as it is?"""
    if not outlines(model, train, torch):
        return None
    scores = []
    for shown in train:
        first = shown.tensors(torch)[0]
        if first.dim() != 4 or not first.is_floating_point() or min(first.shape[2:]) < MIN_SIDE:
            continue
        for target in shown.targets(torch):
            if target.dim() < 3 or target.shape[-2:] != first.shape[-2:]:
                continue
            if not is_mask(target, torch):
                continue
            image = first.detach().float().cpu().mean(1)
            mask = target.detach().float().cpu().reshape(len(first), -1, *first.shape[2:]).mean(1)
            outline = edges(image)
            tried = []
            for dims in ((), (2,), (1,), (1, 2)):
                turned, turned_border = mask.flip(dims), edges(mask.flip(dims))
                tried.append(fit(image, turned) + fit(outline, turned_border))
            scores.append(torch.stack(tried, 1))
            break
    if not scores:
        return None
    found = torch.cat(scores)
    best, second = found.topk(2, dim=1).values.unbind(1)
    decided = (best > FIT) & (best > DECIDED * second)
    count = int(decided.sum())
    if not count:
        return None
    winners = found[decided].argmax(1)
    return {"pairs": count, "as_it_is": float((winners == 0).float().mean())}
