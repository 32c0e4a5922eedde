"""Two images mixed into one, with both labels: mixup and CutMix.

Each image is mixed with the previous one of the batch, whose order is random. The share is drawn
per image; the published implementations draw one per batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import Boxes


@dataclass(frozen=True)
class Mixed:
    """Two labels per image, int64 `[B]`, and the share of the first, float `[B]`."""

    first: Tensor
    second: Tensor
    share: Tensor


Targets: TypeAlias = Tensor | Mixed


def loss_of(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Targets) -> Tensor:
    """The scalar `loss` of `logits`, float `[B, classes]`; for mixed images that of both classes.

    A custom loss takes integer labels for a whole batch, without shares. So the shares weight the
    gradient: that of each image is the gradient of share * loss(first) + (1 - share) *
    loss(second). The value of the loss uses the mean share of the batch.
    """
    if isinstance(targets, Tensor):
        return loss(logits, targets)
    share = targets.share.view(-1, 1)
    first = loss(_weighted(logits, share), targets.first)
    second = loss(_weighted(logits, 1 - share), targets.second)
    mean = targets.share.mean()
    value = (mean * first + (1 - mean) * second).detach()
    total = first + second
    return total + (value - total.detach())


def _weighted(logits: Tensor, share: Tensor) -> Tensor:
    """The same logits, with their gradient multiplied by `share`."""
    return share * logits + (1 - share) * logits.detach()


def mix(
    inputs: Tensor, labels: Tensor, mixup: float, cutmix: float, generator: Generator
) -> tuple[Tensor, Mixed]:
    """Apply mixup or CutMix to each image; with both turned on, each to half of the images.

    `mixup` and `cutmix` are the alphas of the Beta(alpha, alpha) from which shares are drawn
    (Zhang et al. 2017, Yun et al. 2019); 0 turns a method off.
    """
    count, _, height, width = inputs.shape
    blended = torch.rand(count, generator=generator) < _chance_of_mixup(mixup, cutmix)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    share = torch.where(blended, _beta(mixup, uniform), _beta(cutmix, uniform))
    boxes = cut(share, (height, width), generator)
    left = 1 - boxes.height * boxes.width / (
        height * width
    )  # a box may be partly outside the image
    cover = boxes.cover((height, width), inputs.device) & _each(~blended, inputs)
    others = inputs.roll(1, 0)
    weight = torch.where(blended, share, 1.0).to(inputs.dtype)  # mps has no float64
    blend = others.lerp(inputs, _each(weight, inputs))
    mixed = torch.where(cover, others, blend)
    share = torch.where(blended, share, left).float().to(labels.device)
    return mixed, Mixed(labels, labels.roll(1), share)


def cut(share: Tensor, size: tuple[int, int], generator: Generator) -> Boxes:
    """Boxes that leave about `share` (float `[B]`) of an image uncovered, clipped at its edges."""
    (top, height), (left, width) = (_cut(share, side, generator) for side in size)
    return Boxes(top, left, height, width)


def _cut(share: Tensor, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Start and length along one side, centred at a random pixel and clipped at the edges."""
    middle = torch.randint(side, share.shape, generator=generator)
    half = (0.5 * (1 - share).sqrt() * side).long()
    start = (middle - half).clamp(min=0)
    return start, (middle + half).clamp(max=side) - start


def _chance_of_mixup(mixup: float, cutmix: float) -> float:
    if mixup and cutmix:
        return 0.5
    return 1.0 if mixup else 0.0


def _beta(alpha: float, uniform: Tensor) -> Tensor:
    """Beta(alpha, alpha) at these quantiles; torch can draw it only from the global generator."""
    from scipy.special import betaincinv  # takes 0.2 s to import, and is rarely needed

    drawn: Tensor = torch.from_numpy(betaincinv(alpha or 1.0, alpha or 1.0, uniform.numpy()))
    return drawn


def _each(values: Tensor, inputs: Tensor) -> Tensor:
    """One value per image, `[B]`, as `[B, 1, 1, 1]` on the device of `inputs`."""
    return values.to(inputs.device).view(-1, 1, 1, 1)
