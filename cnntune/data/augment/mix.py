"""Two images mixed into one, with both labels: mixup and CutMix.

Each image is mixed with the previous one of the batch, whose order is random. The share is drawn
per image; the published implementations draw one per batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from cnntune.data.augment.draws import Boxes, Draw, Shape


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


@dataclass(frozen=True)
class Mix:
    """Mixup or CutMix for each image; with both turned on, each for half of the images.

    `mixup` and `cutmix` are the alphas of the Beta(alpha, alpha) from which shares are drawn
    (Zhang et al. 2017, Yun et al. 2019); 0 turns a method off.
    """

    mixup: float
    cutmix: float

    def draw(self, shape: Shape, generator: Generator) -> Draw:
        """Boxes of CutMix, empty for mixup; weights of mixup, 1 for CutMix; shares that are left.

        The shares are drawn as float64, which mps lacks, and sent as float32.
        """
        count, height, width = shape
        blended = torch.rand(count, generator=generator) < _chance_of_mixup(self.mixup, self.cutmix)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        share = torch.where(blended, _beta(self.mixup, uniform), _beta(self.cutmix, uniform))
        boxes = cut(share, (height, width), generator)
        # A box may be partly outside the image.
        left = 1 - boxes.height * boxes.width / (height * width)
        rows = boxes.rows() | {"height": boxes.height * ~blended}
        rows["weight"] = torch.where(blended, share, 1.0).float()
        rows["share"] = torch.where(blended, share, left).float()
        return Draw(rows)

    def __call__(self, inputs: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Mixed]:
        """Each image mixed with the one before it, and both labels."""
        height, width = inputs.shape[-2:]
        others = inputs.roll(1, 0)
        blend = others.lerp(inputs, draw.rows["weight"].view(-1, 1, 1, 1))
        mixed = torch.where(Boxes.of(draw.rows).cover((height, width)), others, blend)
        return mixed, Mixed(labels, labels.roll(1), draw.rows["share"])


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
