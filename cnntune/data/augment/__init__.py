"""Random changes that keep the label, batched on the device with one draw for each image.

Equal in distribution to torchvision's transforms applied image by image. All draws come from the
generator that is given.
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

    `generator` lives on the CPU and is advanced. Returns the images and what they show: the labels,
    or `Mixed` ones.
    """
    inputs = _moved(inputs, settings, normalise, generator)
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


def _moved(
    inputs: Tensor, settings: AugmentSection, normalise: Normalise, generator: Generator
) -> Tensor:
    if settings.flip:
        inputs = flip(inputs, HORIZONTAL, generator)
    if settings.flip_vertical:
        inputs = flip(inputs, VERTICAL, generator)
    turns = {key: getattr(settings, key) for key in ("rotate", "translate", "zoom", "shear")}
    if any(turns.values()):
        inputs = affine(inputs, normalise.black, generator, **turns)
    if settings.crop:
        inputs = crop(inputs, settings.crop, normalise.black, generator)
    if settings.resized_crop < 1:
        smallest, ratio = settings.resized_crop, settings.resized_crop_ratio
        inputs = resized_crop(inputs, smallest, ratio, generator)
    return inputs
