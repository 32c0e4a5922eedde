"""Augmentation: one draw per image, equal in distribution to torchvision image by image."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from cnntune.config.recipe import AugmentSection
from cnntune.data.augment import Augmentation, Mixed, augment
from cnntune.data.augment.draws import Transform
from cnntune.data.augment.geometry import HORIZONTAL, VERTICAL, Crop, Flip
from cnntune.data.parts import Normalise

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
NORMALISE = Normalise(MEAN.view(1, 3, 1, 1), STD.view(1, 3, 1, 1))
AS_IT_IS = Normalise(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
BLACK = torch.zeros(1, 1, 1, 1)
KEYS = {
    "flip": True,
    "flip_vertical": True,
    "crop": 2,
    "resized_crop": 0.3,
    "rotate": 20.0,
    "translate": 0.3,
    "zoom": 0.3,
    "shear": 20.0,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.3,
    "cutout": 4,
    "erase": 1.0,
    "mixup": 1.0,
    "cutmix": 1.0,
}
EVERYTHING = AugmentSection(**(KEYS | {"zoom": 0.1}))  # type: ignore[arg-type]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal_images(count: int, side: int = 8) -> Tensor:
    one = torch.arange(1, 2 * side * side + 1, dtype=torch.float32).view(1, 2, side, side)
    return one.expand(count, -1, -1, -1).clone()


def photographs(count: int, side: int = 12) -> Tensor:
    """The same picture of smooth colours again and again, float `[count, 3, side, side]` in 0..1"""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    one = torch.stack([x, y * x, 1 - y])
    return one.expand(count, -1, -1, -1).clone()


def augmented(pixels: Tensor, settings: AugmentSection, seed: int = 0) -> Tensor:
    """What `augment` makes of pixels in 0..1, as pixels again."""
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    inputs, _ = augment(NORMALISE(pixels), labels, settings, NORMALISE, seeded(seed))
    return NORMALISE.undo(inputs)


def transformed(images: Tensor, transform: Transform) -> Tensor:
    shape = (len(images), images.shape[2], images.shape[3])
    return transform(images, transform.draw(shape, seeded()))


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """By hand: every pixel moves, zeros follow."""
    moved = torch.zeros_like(image)
    channels, height, width = image.shape
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                if 0 <= row - down < height and 0 <= column - right < width:
                    moved[channel, row, column] = image[channel, row - down, column - right]
    return moved


# The crop


def test_a_crop_is_a_shift_with_black_outside() -> None:
    image = equal_images(1)[0]
    shifts = {(d, r): shifted(image, d, r) for d in range(-2, 3) for r in range(-2, 3)}
    for cropped in transformed(equal_images(64), Crop(2, BLACK)):
        assert any(torch.equal(cropped, expected) for expected in shifts.values())


def test_a_crop_reaches_every_shift_and_no_other() -> None:
    image = equal_images(1, side=4)[0]
    cropped = transformed(equal_images(1000, side=4), Crop(1, BLACK))
    shifts = [shifted(image, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    counts = [sum(torch.equal(one, shift) for one in cropped) for shift in shifts]
    assert sum(counts) == 1000
    assert all(70 < count < 155 for count in counts)  # 111 +- 10


def test_images_keep_their_places_in_the_batch() -> None:
    batch = torch.arange(1.0, 5.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    cropped = transformed(batch, Crop(2, BLACK))
    assert cropped.amax((1, 2, 3)).tolist() == [1.0, 2.0, 3.0, 4.0]


def test_an_oblong_image_keeps_its_shape() -> None:
    assert transformed(torch.rand(3, 2, 6, 10), Crop(3, BLACK)).shape == (3, 2, 6, 10)


def test_what_is_outside_is_black_and_not_the_mean_colour() -> None:
    # Half of a white image shifted by up to 4 of 8 pixels is outside at most.
    for settings in (AugmentSection(crop=4), AugmentSection(translate=0.5)):
        pixels = augmented(torch.ones(32, 3, 8, 8), settings)
        values = pixels.flatten().unique()
        assert torch.all((values.abs() < 1e-5) | ((values - 1).abs() < 1e-5))
        assert float(values.min()) < 1e-5


# The flip


@pytest.mark.parametrize("axis", [HORIZONTAL, VERTICAL])
def test_flip_mirrors_an_image_or_not(axis: int) -> None:
    images = equal_images(1000)
    mirrored = images[0].flip(axis - 1)
    flipped = transformed(images, Flip(axis))
    turned = sum(torch.equal(image, mirrored) for image in flipped)
    left = sum(torch.equal(image, images[0]) for image in flipped)
    assert turned + left == 1000
    assert 430 < turned < 570  # 500 +- 16


def test_one_key_swaps_left_and_right_and_the_other_top_and_bottom() -> None:
    pixels = torch.zeros(64, 3, 2, 2)
    pixels[:, :, 0, 0] = 1  # top left
    across = augmented(pixels, AugmentSection(flip=True)).mean((0, 1))
    down = augmented(pixels, AugmentSection(flip_vertical=True)).mean((0, 1))
    assert across[1].abs().max() < 1e-5  # never at the bottom
    assert across[0, 1] > 0.2
    assert down[:, 1].abs().max() < 1e-5  # never to the right
    assert down[1, 0] > 0.2


# All together


def test_nothing_changes_and_nothing_is_drawn_when_it_is_off() -> None:
    generator = seeded()
    before = generator.get_state()
    labels = torch.arange(4)
    images, targets = augment(equal_images(4), labels, AugmentSection(), AS_IT_IS, generator)
    assert torch.equal(images, equal_images(4))
    assert targets is labels
    assert torch.equal(generator.get_state(), before)


def test_the_given_images_are_not_changed() -> None:
    pixels = photographs(16)
    inputs = NORMALISE(pixels)
    before = inputs.clone()
    augment(inputs, torch.arange(16), EVERYTHING, NORMALISE, seeded())
    assert torch.equal(inputs, before)


def test_the_same_generator_gives_the_same_images_and_then_different_ones() -> None:
    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, targets = augment(
            NORMALISE(photographs(64)), torch.arange(64), EVERYTHING, NORMALISE, generator
        )
        assert isinstance(targets, Mixed)
        return images, targets.share

    generator = seeded()
    first, share = draw(generator)
    again, share_again = draw(seeded())
    assert torch.equal(first, again)
    assert torch.equal(share, share_again)
    assert not torch.equal(first, draw(generator)[0])
    assert not torch.equal(first, draw(seeded(1))[0])


def test_the_numbers_of_an_epoch_are_those_of_its_batches_one_after_the_other() -> None:
    pixels, labels, counts = NORMALISE(photographs(40)), torch.arange(40), [16, 16, 8]
    augmentation, at_once, by_batch = Augmentation.of(EVERYTHING, NORMALISE), seeded(), seeded()
    draws = augmentation.draw(counts, (12, 12), at_once, torch.device("cpu"))
    batches = zip(pixels.split(counts), labels.split(counts), draws, strict=True)
    for inputs, classes, drawn in batches:
        images, targets = augmentation.apply(inputs, classes, drawn)
        expected, others = augment(inputs, classes, EVERYTHING, NORMALISE, by_batch)
        assert torch.equal(images, expected)
        assert isinstance(targets, Mixed)
        assert isinstance(others, Mixed)
        assert torch.equal(targets.share, others.share)
    assert torch.equal(at_once.get_state(), by_batch.get_state())


def test_the_global_random_state_is_not_touched() -> None:
    before = torch.get_rng_state()
    augmented(photographs(8), EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("key", KEYS)
def test_every_image_has_its_own_draw(key: str) -> None:
    pixels = photographs(64)
    if key in ("mixup", "cutmix"):
        pixels = pixels * torch.linspace(0.2, 1, 64).view(-1, 1, 1, 1)
    images = augmented(pixels, AugmentSection(**{key: KEYS[key]}))  # type: ignore[arg-type]
    distinct = {tuple(image.flatten().tolist()) for image in images}
    # Two pictures of a flip; 25 shifts by 2, of which 64 draws miss 1.8 on average.
    assert len(distinct) == 2 if key.startswith("flip") else len(distinct) > 15


def test_every_key_has_a_test_here() -> None:
    assert {*KEYS, "resized_crop_ratio"} == set(AugmentSection.model_fields)


# Without `fill`, which darkens the edge of a rotated image twice: by padding and by a mask.
BILINEAR = v2.InterpolationMode.BILINEAR
TORCHVISION: dict[str, tuple[dict[str, object], v2.Transform]] = {
    "crop": ({"crop": 3}, v2.RandomCrop(12, padding=3)),
    "resized crop": ({"resized_crop": 0.2}, v2.RandomResizedCrop(12, scale=(0.2, 1.0))),
    "narrow crop": (
        {"resized_crop": 0.2, "resized_crop_ratio": 1.1},
        v2.RandomResizedCrop(12, scale=(0.2, 1.0), ratio=(1 / 1.1, 1.1)),
    ),
    "rotation": ({"rotate": 30.0}, v2.RandomRotation(30, interpolation=BILINEAR, fill=None)),
    "affine": (
        {"rotate": 20.0, "translate": 0.2, "zoom": 0.3, "shear": 15.0},
        v2.RandomAffine(20, (0.2, 0.2), (0.7, 1.3), 15, interpolation=BILINEAR, fill=None),
    ),
    "brightness": ({"brightness": 1.5}, v2.ColorJitter(brightness=1.5)),
    "colours": (
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
        v2.ColorJitter(0.4, 0.4, 0.4, 0.2),
    ),
    "erase": (
        {"erase": 0.6},
        v2.RandomErasing(0.6, value=MEAN.tolist()),
    ),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_images_are_distributed_as_those_of_torchvision_one_by_one(name: str) -> None:
    settings, transform = TORCHVISION[name]
    count = 1500
    ours = augmented(photographs(count), AugmentSection(**settings))  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = torch.stack([transform(image) for image in photographs(count)])
    _same_distribution(ours, theirs, lambda images: images)
    _same_distribution(ours, theirs, lambda images: images**2)
    _same_distribution(ours, theirs, lambda images: images * images.flip(3))


def _same_distribution(ours: Tensor, theirs: Tensor, of: Callable[[Tensor], Tensor]) -> None:
    """Each pixel has the same mean in both, to within 5.5 standard errors.

    432 pixels in two dozen comparisons: by chance 5.5 is passed once in 2,500 runs of the suite.
    """
    one, other = of(ours).flatten(1), of(theirs).flatten(1)
    error = ((one.var(0) + other.var(0)) / len(ours)).sqrt() + 1e-5
    assert float(((one.mean(0) - other.mean(0)).abs() / error).max()) < 5.5


def test_the_draws_of_two_images_do_not_depend_on_each_other() -> None:
    # With one draw for all, pixel values of neighbours in the batch would go together.
    images = augmented(photographs(2000), AugmentSection(brightness=0.9)).mean((1, 2, 3))
    correlation = torch.corrcoef(torch.stack([images[:-1], images[1:]]))[0, 1]
    assert abs(float(correlation)) < 4 / math.sqrt(2000)
