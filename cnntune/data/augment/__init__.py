"""Random transforms that keep the label, batched on the device with one draw per image.

Equal in distribution to torchvision's transforms applied image by image. All random numbers are
drawn from the given generator.
"""

from torch import Generator, Tensor

from cnntune.config.recipe import AugmentSection
from cnntune.data.augment.colour import CHANGES, jitter
from cnntune.data.augment.erase import cutout, erase
from cnntune.data.augment.geometry import HORIZONTAL, VERTICAL, affine, crop, flip, resized_crop
from cnntune.data.augment.mix import Mixed, Targets, loss_of, mix
from cnntune.data.parts import Normalise

__all__ = ["Mixed", "Targets", "augment", "loss_of"]


def augment(
    inputs: Tensor,
    labels: Tensor,
    settings: AugmentSection,
    normalise: Normalise,
    generator: Generator,
) -> tuple[Tensor, Targets]:
    """Augment float `[B, C, H, W]`, normalised by `normalise`; labels are int64 `[B]`.

    `generator` is a CPU generator, whose state advances. Returns the images and their labels, which
    are `Mixed` with mixup or CutMix.
    """
    inputs = _transformed(inputs, settings, normalise, generator)
    strengths = {name: s for name in CHANGES if (s := getattr(settings, name))}
    if strengths:
        inputs = normalise(jitter(normalise.undo(inputs), strengths, generator))
    if settings.cutout:
        inputs = cutout(inputs, settings.cutout, generator)
    if settings.erase:
        inputs = erase(inputs, settings.erase, generator)
    if settings.mixup or settings.cutmix:
        return mix(inputs, labels, settings.mixup, settings.cutmix, generator)
    return inputs, labels


def _transformed(
    inputs: Tensor, settings: AugmentSection, normalise: Normalise, generator: Generator
) -> Tensor:
    if settings.flip:
        inputs = flip(inputs, HORIZONTAL, generator)
    if settings.flip_vertical:
        inputs = flip(inputs, VERTICAL, generator)
    ranges = {key: getattr(settings, key) for key in ("rotate", "translate", "zoom", "shear")}
    if any(ranges.values()):
        inputs = affine(inputs, normalise.black, generator, **ranges)
    if settings.crop:
        inputs = crop(inputs, settings.crop, normalise.black, generator)
    if settings.resized_crop < 1:
        min_area, max_ratio = settings.resized_crop, settings.resized_crop_ratio
        inputs = resized_crop(inputs, min_area, max_ratio, generator)
    return inputs
