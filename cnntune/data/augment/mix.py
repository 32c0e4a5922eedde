"""Two images in one, and labels to match: mixup and CutMix.

Each image is mixed with the one before it in the batch, whose order is random, with a share of its
own: one draw for each image, where the published codes draw once for a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import Boxes


@dataclass(frozen=True)
class Mixed:
    """Two labels for each image, int64 `[B]`, and the share of the first, float `[B]`."""

    first: Tensor
    second: Tensor
    share: Tensor


Targets: TypeAlias = Tensor | Mixed


def loss_of(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Targets) -> Tensor:
    """The scalar `loss` of `logits`, float `[B, classes]`; for mixed images that of both classes.

    A loss of the user's own takes a batch and whole labels, no shares. So the shares weigh what
    flows back: each image's gradient is that of share * loss(first) + (1 - share) * loss(second).
    The value has the mean share for all of them.
    """
    if isinstance(targets, Tensor):
        return loss(logits, targets)
    share = targets.share.view(-1, 1)
    first = loss(_weighed(logits, share), targets.first)
    second = loss(_weighed(logits, 1 - share), targets.second)
    mean = targets.share.mean()
    value = (mean * first + (1 - mean) * second).detach()
    total = first + second
    return total + (value - total.detach())


def _weighed(logits: Tensor, share: Tensor) -> Tensor:
    """The same logits, through which only `share` of the gradient flows back."""
    return share * logits + (1 - share) * logits.detach()


def mix(
    inputs: Tensor, labels: Tensor, mixup: float, cutmix: float, generator: Generator
) -> tuple[Tensor, Mixed]:
    """Mix each image in one of the two ways; with both, half of the images in each.

    `mixup` and `cutmix` are the alphas of the Beta(alpha, alpha) that shares are drawn from
    (Zhang et al. 2017, Yun et al. 2019); 0 turns one of the ways off.
    """
    count, _, height, width = inputs.shape
    blended = torch.rand(count, generator=generator) < _chance_of_mixup(mixup, cutmix)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    share = torch.where(blended, _beta(mixup, uniform), _beta(cutmix, uniform))
    boxes = cut(share, (height, width), generator)
    left = 1 - boxes.height * boxes.width / (height * width)  # a box may lie partly outside
    cover = boxes.cover((height, width), inputs.device) & _each(~blended, inputs)
    others = inputs.roll(1, 0)
    weight = torch.where(blended, share, 1.0).to(inputs.dtype)  # mps takes no float64
    faded = others.lerp(inputs, _each(weight, inputs))
    mixed = torch.where(cover, others, faded)
    share = torch.where(blended, share, left).float().to(labels.device)
    return mixed, Mixed(labels, labels.roll(1), share)


def cut(share: Tensor, size: tuple[int, int], generator: Generator) -> Boxes:
    """Boxes that leave about `share` (float `[B]`) of an image, cut off at its edges."""
    (top, height), (left, width) = (_cut(share, side, generator) for side in size)
    return Boxes(top, left, height, width)


def _cut(share: Tensor, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Start and length along one side: half a length to both sides of any pixel."""
    middle = torch.randint(side, share.shape, generator=generator)
    half = (0.5 * (1 - share).sqrt() * side).long()
    start = (middle - half).clamp(min=0)
    return start, (middle + half).clamp(max=side) - start


def _chance_of_mixup(mixup: float, cutmix: float) -> float:
    if mixup and cutmix:
        return 0.5
    return 1.0 if mixup else 0.0


def _beta(alpha: float, uniform: Tensor) -> Tensor:
    """Beta(alpha, alpha) at these quantiles; torch draws it from the global generator alone."""
    from scipy.special import betaincinv  # a fifth of a second to import, and rarely wanted

    drawn: Tensor = torch.from_numpy(betaincinv(alpha or 1.0, alpha or 1.0, uniform.numpy()))
    return drawn


def _each(values: Tensor, inputs: Tensor) -> Tensor:
    """One value an image, `[B]`, laid out to meet `[B, C, H, W]`, where these are."""
    return values.to(inputs.device).view(-1, 1, 1, 1)
