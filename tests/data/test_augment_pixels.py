"""Given the same parameters, the batched operations give the pixels that torchvision gives."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from cnntune.data.augment import colour
from cnntune.data.augment.draws import Boxes, Transform, draw_boxes
from cnntune.data.augment.erase import Cutout, Erase
from cnntune.data.augment.geometry import ResizedCrop, enlarge, sources, warp
from cnntune.data.parts import Normalise

COUNT = 24
BLACK = torch.zeros(1, 3, 1, 1)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(COUNT, 3, 10, 14, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def transformed(images: Tensor, transform: Transform) -> Tensor:
    shape = (len(images), images.shape[2], images.shape[3])
    return transform(images, transform.draw(shape, seeded()))


def between(low: float, high: float, seed: int) -> Tensor:
    return low + (high - low) * torch.rand(COUNT, generator=seeded(seed))


def test_rotated_shifted_zoomed_and_sheared_images(images: Tensor) -> None:
    angle, factor, lean = between(-90, 90, 1), between(0.6, 1.4, 2), between(-30, 30, 3)
    right, down = between(-4, 4, 4).round(), between(-3, 3, 5).round()
    ours = warp(images, BLACK, sources(angle, right, down, factor, lean))
    for index, image in enumerate(images):
        theirs = tv.affine(
            image,
            angle=float(angle[index]),
            translate=[int(right[index]), int(down[index])],
            scale=float(factor[index]),
            shear=[float(lean[index]), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(ours[index], theirs, atol=1e-4, rtol=0)


def test_a_quarter_turn_is_clockwise() -> None:
    # By hand: 1 2    3 1
    #          3 4 -> 4 2
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    zero, one = torch.zeros(1), torch.ones(1)
    turned = warp(image, BLACK[:, :1], sources(torch.tensor([90.0]), zero, zero, one, zero))
    torch.testing.assert_close(turned, torch.tensor([[[[3.0, 1.0], [4.0, 2.0]]]]))


def test_cropped_and_enlarged_images(images: Tensor) -> None:
    boxes = draw_boxes(
        COUNT, (10, 14), area=(0.1, 1), ratio=(0.5, 2), largest=(10, 14), generator=seeded()
    )
    ours = enlarge(images, boxes)
    for index, image in enumerate(images):
        box = [int(side[index]) for side in (boxes.top, boxes.left, boxes.height, boxes.width)]
        theirs = tv.resized_crop(image, *box, size=[10, 14])
        torch.testing.assert_close(ours[index], theirs, atol=1e-4, rtol=0)


def test_no_pixel_from_outside_its_box_affects_an_enlarged_image() -> None:
    image = torch.ones(1, 1, 6, 6)
    image[:, :, 2:4, 2:4] = 0
    two = torch.tensor([2])
    assert float(enlarge(image, Boxes(two, two, two, two)).max()) == 0


def test_an_image_too_oblong_for_any_box_gives_its_centre() -> None:
    # 4 x 30 pixels and ratios up to 4/3: every box of at least nine tenths is higher than 4. By
    # hand: 4 high and 4 * 4/3 = 5 wide, from column (30 - 5) // 2 = 12.
    image = torch.arange(30.0).view(1, 1, 1, 30).expand(1, 1, 4, 30).contiguous()
    cut = transformed(image, ResizedCrop(0.9, 4 / 3))
    assert float(cut.min()) == pytest.approx(12)
    assert float(cut.max()) == pytest.approx(16)


@pytest.mark.parametrize(
    ("change", "reference", "low", "high"),
    [
        (colour.brightness, tv.adjust_brightness, 0.0, 2.0),
        (colour.contrast, tv.adjust_contrast, 0.0, 2.0),
        (colour.saturation, tv.adjust_saturation, 0.0, 2.0),
        (colour.hue, tv.adjust_hue, -0.5, 0.5),
    ],
)
def test_changed_colours(
    images: Tensor, change: object, reference: object, low: float, high: float
) -> None:
    assert callable(change)
    assert callable(reference)
    images[0] = images[0].mean(0)  # grey: without a hue
    images[1] = 0.0
    images[2] = 1.0
    images[3, :2] = images[3, :2].mean(0)  # two channels that are equally bright
    factors = between(low, high, 1)
    ours = images.clone()
    change(ours, factors)
    for index, image in enumerate(images):
        theirs = reference(image, float(factors[index]))
        torch.testing.assert_close(ours[index], theirs, atol=1e-5, rtol=0)


def test_a_third_of_a_turn_makes_red_green() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    colour.hue(red, torch.tensor([1 / 3]))
    torch.testing.assert_close(red.flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_grey_images_change_in_brightness_and_contrast(images: Tensor) -> None:
    grey, factors = images[:, :1], between(0.2, 1.8, 1)
    for change, reference in (
        (colour.brightness, tv.adjust_brightness),
        (colour.contrast, tv.adjust_contrast),
    ):
        ours = grey.clone()
        change(ours, factors)
        for index, image in enumerate(grey):
            torch.testing.assert_close(ours[index], reference(image, float(factors[index])))


def test_the_order_of_the_changes_differs_from_image_to_image() -> None:
    # Half as bright and twice the contrast, or twice the contrast and half as bright: 0.9 around a
    # mean of 0.5 gives two results, since the second way clips at 1.
    pixels = torch.full((200, 1, 1, 2), 0.9)
    pixels[..., 1] = 0.1
    as_it_is = Normalise(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    with pytest.MonkeyPatch.context() as patch:
        half = lambda x, _: x.mul_(0.5)  # noqa: E731
        twice = lambda x, _: x.mul_(2).sub_(0.5).clamp_(0, 1)  # noqa: E731
        patch.setattr(colour, "CHANGES", {"brightness": half, "contrast": twice})
        changed = transformed(pixels, colour.Jitter({"brightness": 0.5, "contrast": 1.0}, as_it_is))
    first = torch.isclose(changed[:, 0, 0, 0], torch.tensor(0.4))  # 0.45, then 2 * -0.05 + 0.5
    other = torch.isclose(changed[:, 0, 0, 0], torch.tensor(0.5))  # clipped to 1, then 0.5
    assert int((first | other).sum()) == 200
    assert 65 < int(first.sum()) < 135  # 100 +- 7


# Holes


def test_a_cut_out_square_is_centred_anywhere_and_clipped_at_the_edges() -> None:
    holes = transformed(torch.ones(4000, 1, 6, 6), Cutout(3)) == 0
    rows, columns = holes.any(3).sum(2).flatten(), holes.any(2).sum(2).flatten()
    # The middle is one of 6 rows; at the first and the last one of 3 rows lies outside.
    for sides in (rows, columns):
        assert set(sides.tolist()) == {2, 3}
        assert float((sides == 2).float().mean()) == pytest.approx(2 / 6, abs=4 * 0.0075)
    assert torch.equal(holes.flatten(1).sum(1), rows * columns)  # all of the rectangle is empty


def test_the_share_of_images_that_lose_a_rectangle_is_the_probability() -> None:
    images = torch.ones(4000, 1, 16, 16)
    lost = (transformed(images, Erase(0.3)) == 0).flatten(1).any(1)
    assert float(lost.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 4000))
    assert not (transformed(images, Erase(0.0)) == 0).any()
