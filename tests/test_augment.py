"""Augmentation: one draw for each image, pixels moved and never changed."""

import torch
from torch import Tensor

from cnntune.augment import augment, crop, flip
from cnntune.recipe import AugmentSection


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal_images(count: int, side: int = 8) -> Tensor:
    one = torch.arange(1, 2 * side * side + 1, dtype=torch.float32).view(1, 2, side, side)
    return one.expand(count, -1, -1, -1).clone()


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


def test_every_image_has_a_draw_of_its_own() -> None:
    cropped = crop(equal_images(64), 2, seeded())
    distinct = {tuple(image.flatten().tolist()) for image in cropped}
    assert len(distinct) > 15  # of 25 shifts; 64 draws leave 1.8 of them out on average


def test_a_crop_is_a_shift_with_zeros_behind_it() -> None:
    image = equal_images(1)[0]
    shifts = {(d, r): shifted(image, d, r) for d in range(-2, 3) for r in range(-2, 3)}
    for cropped in crop(equal_images(64), 2, seeded()):
        assert any(torch.equal(cropped, expected) for expected in shifts.values())


def test_a_crop_reaches_every_shift_and_no_other() -> None:
    image = equal_images(1, side=4)[0]
    cropped = crop(equal_images(1000, side=4), 1, seeded())
    shifts = [shifted(image, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    counts = [sum(torch.equal(one, shift) for one in cropped) for shift in shifts]
    assert sum(counts) == 1000
    assert all(70 < count < 155 for count in counts)  # 111 +- 10


def test_images_keep_their_places_in_the_batch() -> None:
    batch = torch.arange(1.0, 5.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    cropped = crop(batch, 2, seeded())
    assert cropped.amax((1, 2, 3)).tolist() == [1.0, 2.0, 3.0, 4.0]


def test_an_oblong_image_keeps_its_shape() -> None:
    assert crop(torch.rand(3, 2, 6, 10), 3, seeded()).shape == (3, 2, 6, 10)


def test_flip_mirrors_left_to_right_or_leaves() -> None:
    images = equal_images(1000)
    mirrored = images[0].flip(2)
    flipped = flip(images, seeded())
    turned = sum(torch.equal(image, mirrored) for image in flipped)
    left = sum(torch.equal(image, images[0]) for image in flipped)
    assert turned + left == 1000
    assert 430 < turned < 570  # 500 +- 16


def test_nothing_changes_and_nothing_is_drawn_when_it_is_off() -> None:
    images = equal_images(4)
    generator = seeded()
    before = generator.get_state()
    assert torch.equal(augment(images, AugmentSection(), generator), equal_images(4))
    assert torch.equal(generator.get_state(), before)


def test_the_images_given_are_left_as_they_were() -> None:
    images = equal_images(16)
    augment(images, AugmentSection(flip=True, crop=2), seeded())
    assert torch.equal(images, equal_images(16))


def test_the_same_generator_gives_the_same_images_and_goes_on() -> None:
    settings = AugmentSection(flip=True, crop=2)
    generator = seeded()
    first = augment(equal_images(64), settings, generator)
    assert torch.equal(first, augment(equal_images(64), settings, seeded()))
    assert not torch.equal(first, augment(equal_images(64), settings, generator))
    assert not torch.equal(first, augment(equal_images(64), settings, seeded(1)))


def test_the_global_random_state_is_not_touched() -> None:
    before = torch.get_rng_state()
    augment(equal_images(4), AugmentSection(flip=True, crop=2), seeded())
    assert torch.equal(torch.get_rng_state(), before)
