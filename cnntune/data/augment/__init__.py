"""Random transforms that keep the label, batched on the device with one draw per image.

Equal in distribution to torchvision's transforms applied image by image. All random numbers are
drawn on the CPU from the given generator, those of an epoch at once: on an accelerator each copy
of a step's own numbers would wait until the steps before are done.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from cnntune.config.recipe import AugmentSection
from cnntune.data.augment.colour import CHANGES, Jitter
from cnntune.data.augment.draws import Draw, Transform, send_draws
from cnntune.data.augment.erase import Cutout, Erase
from cnntune.data.augment.geometry import HORIZONTAL, VERTICAL, Affine, Crop, Flip, ResizedCrop
from cnntune.data.augment.mix import Mix, Mixed, Targets, loss_of
from cnntune.data.parts import Normalise

__all__ = ["Augmentation", "Mixed", "Targets", "augment", "loss_of"]


@dataclass(frozen=True)
class Augmentation:
    """The transforms of `[augment]`, in order; `mix`, the last one, changes the labels too."""

    transforms: tuple[Transform, ...]
    mix: Mix | None

    @classmethod
    def of(cls, settings: AugmentSection, normalise: Normalise) -> "Augmentation":
        """The transforms of images that are normalised by `normalise`."""
        mixes = bool(settings.mixup or settings.cutmix)
        return cls(
            tuple(_transforms(settings, normalise)),
            Mix(settings.mixup, settings.cutmix) if mixes else None,
        )

    def draw(
        self,
        batches: Sequence[int],
        size: tuple[int, int],
        generator: Generator,
        device: torch.device,
    ) -> list[list[Draw]]:
        """Random numbers for batches of so many images of `size` (height, width), on `device`.

        `generator` is a CPU generator, whose state advances as it does batch by batch.
        """
        drawing = [step.draw for step in (*self.transforms, self.mix) if step is not None]
        drawn = [[draw((count, *size), generator) for draw in drawing] for count in batches]
        return send_draws(drawn, batches, device)

    def apply(self, inputs: Tensor, labels: Tensor, draws: list[Draw]) -> tuple[Tensor, Targets]:
        """Augment float `[B, C, H, W]` and labels int64 `[B]` with the numbers of one batch.

        The labels become `Mixed` with mixup or CutMix.
        """
        for transform, draw in zip(self.transforms, draws, strict=False):
            inputs = transform(inputs, draw)
        return self.mix(inputs, labels, draws[-1]) if self.mix else (inputs, labels)


def augment(
    inputs: Tensor,
    labels: Tensor,
    settings: AugmentSection,
    normalise: Normalise,
    generator: Generator,
) -> tuple[Tensor, Targets]:
    """Augment one batch: float `[B, C, H, W]`, normalised by `normalise`, and labels int64 `[B]`.

    `generator` is a CPU generator, whose state advances. Returns the images and their labels, which
    are `Mixed` with mixup or CutMix.
    """
    augmentation = Augmentation.of(settings, normalise)
    size = (inputs.shape[2], inputs.shape[3])
    (draws,) = augmentation.draw([len(inputs)], size, generator, inputs.device)
    return augmentation.apply(inputs, labels, draws)


def _transforms(settings: AugmentSection, normalise: Normalise) -> list[Transform]:
    found: list[Transform] = []
    if settings.flip:
        found.append(Flip(HORIZONTAL))
    if settings.flip_vertical:
        found.append(Flip(VERTICAL))
    ranges = {key: getattr(settings, key) for key in ("rotate", "translate", "zoom", "shear")}
    if any(ranges.values()):
        found.append(Affine(normalise.black, **ranges))
    if settings.crop:
        found.append(Crop(settings.crop, normalise.black))
    if settings.resized_crop < 1:
        found.append(ResizedCrop(settings.resized_crop, settings.resized_crop_ratio))
    strengths = {name: s for name in CHANGES if (s := getattr(settings, name))}
    if strengths:
        found.append(Jitter(strengths, normalise))
    if settings.cutout:
        found.append(Cutout(settings.cutout))
    if settings.erase:
        found.append(Erase(settings.erase))
    return found
