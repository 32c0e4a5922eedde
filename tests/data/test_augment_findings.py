"""What `[augment]` requires of the images, the warning about labels, and the picture of a batch."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.data.augment.check import label_findings
from cnntune.data.augment.preview import COLUMNS, DRAWS, GAP, LINE, MARGIN, save_picture
from cnntune.errors import RecipeError
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.worker import read_data

CPU = torch.device("cpu")


def shapes(*overrides: str) -> tuple[Recipe, Data]:
    recipe = load_recipe("shapes", ["data.size=80", "data.image_size=16", *overrides])
    return recipe, load_data(recipe, CPU)


def digits(*overrides: str) -> tuple[Recipe, Data]:
    recipe = load_recipe("digits", ["data.size=100", *overrides])
    return recipe, load_data(recipe, CPU)


@pytest.mark.parametrize("key", ["hue", "saturation"])
def test_grey_images_have_no_hue_to_change(key: str) -> None:
    with pytest.raises(RecipeError, match=rf"augment\.{key}: must be 0: .*\(got 1\)"):
        digits(f"augment.{key}=0.2")


def test_a_search_over_hue_is_rejected_before_its_first_trial() -> None:
    with pytest.raises(RecipeError, match=r"augment\.hue: must be 0"):
        digits("space.augment.hue={choice=[0.0, 0.2]}")
    searched = load_recipe("digits", ["data.size=100", "space.augment.hue={choice=[0.0, 0.2]}"])
    with pytest.raises(RecipeError, match=r"augment\.hue: must be 0"):
        read_data(searched, CPU)  # what a worker does first


def test_a_trial_with_hue_on_grey_images_fails_with_that_line() -> None:
    recipe, _ = digits()
    with pytest.raises(RecipeError, match=r"augment\.hue: must be 0"):
        read_data(recipe.with_values({"augment.hue": 0.1}), CPU)


def test_grey_images_may_change_in_brightness_and_contrast() -> None:
    digits("augment.brightness=0.4", "augment.contrast=0.4")


def test_colours_of_float_images_outside_0_to_1_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_scale.py").write_text(
        "import torch\n"
        "def build(*, seed):\n"
        "    pixels = torch.linspace(-2, 3, 40 * 3 * 64).view(40, 3, 8, 8)\n"
        "    part = [(image, i % 2) for i, image in enumerate(pixels)]\n"
        "    return part, part\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    recipe = parse({"data": {"name": "own_scale:build"}}, file="own")
    load_data(recipe, CPU)
    with pytest.raises(RecipeError, match=r"augment\.contrast: must be 0: needs pixels in 0\.\.1"):
        load_data(recipe.with_values({"augment.contrast": 0.2}), CPU)


@pytest.mark.parametrize(
    "setting",
    [
        "augment.crop=8",
        "space.augment.crop={uniform=[1, 9]}",
        "space.augment.crop={choice=[1, 40]}",
    ],
)
def test_a_crop_that_may_hold_nothing_but_padding_is_refused(setting: str) -> None:
    recipe = load_recipe("digits", ["augment.crop=0", setting])
    with pytest.raises(RecipeError, match=r"augment\.crop: must be < 8, the side of the images"):
        load_data(recipe, CPU)
    load_data(load_recipe("digits", ["augment.crop=7"]), CPU)


# Labels


def test_a_mirrored_digit_is_warned_about() -> None:
    (finding,) = label_findings(*digits("augment.flip=true"))
    assert finding.severity == "warn"
    assert "may change their labels" in finding.evidence
    assert "augment.flip=false" in finding.advice


def test_digits_upside_down_and_searches_that_may_mirror_are_warned_about_too() -> None:
    found = label_findings(
        *digits(
            "augment.flip_vertical=true",
            "augment.rotate=180",
            "space.augment.flip={choice=[true, false]}",
        )
    )
    assert {finding.where for finding in found} == {
        "augment.flip",
        "augment.flip_vertical",
        "augment.rotate",
    }


def test_digits_may_be_shifted_or_sheared() -> None:
    assert label_findings(*digits("augment.crop=1", "augment.rotate=15")) == []


def test_photographs_may_be_mirrored() -> None:
    assert label_findings(*shapes("augment.flip=true", "augment.flip_vertical=true")) == []


def test_folders_with_names_of_one_letter_hold_letters(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("L", (8, 8), 50 * number).save(tmp_path / name / f"{number}.png")
    recipe = load_recipe("folder", [f"data.path='{tmp_path}'", "data.image_size=8"])
    recipe = recipe.with_values({"augment.flip": True})
    (finding,) = label_findings(recipe, load_data(recipe, CPU))
    assert finding.where == "augment.flip"


# The picture


def tile(sheet: Image.Image, row: int, column: int, side: int) -> np.ndarray:
    """The pixels of one image, which was enlarged sixfold, as the network has them."""
    left, top = MARGIN + column * (side * 6 + GAP), GAP + row * (side * 6 + LINE + GAP)
    enlarged = sheet.crop((left, top, left + side * 6, top + side * 6))
    return np.asarray(enlarged)[3::6, 3::6]


def test_the_first_row_of_the_picture_holds_images_of_the_training_set(tmp_path: Path) -> None:
    recipe, data = shapes("augment.flip=true", "augment.crop=0")
    save_picture(recipe, data, tmp_path / "batch.png")
    sheet = Image.open(tmp_path / "batch.png")
    assert sheet.size == (MARGIN + COLUMNS * (96 + GAP), GAP + (DRAWS + 1) * (96 + LINE + GAP))
    inputs, _ = next(data.train.batches(torch.arange(len(data.train)), len(data.train)))
    pixels = (data.normalise.undo(inputs) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for column in range(COLUMNS):
        original = tile(sheet, 0, column, 16)
        assert any(np.array_equal(original, image) for image in pixels)
        for row in range(1, DRAWS + 1):
            drawn = tile(sheet, row, column, 16)
            assert np.array_equal(drawn, original) or np.array_equal(drawn, original[:, ::-1])


def test_the_picture_is_the_same_each_time_and_shows_mixed_images_too(tmp_path: Path) -> None:
    recipe, data = digits("augment.mixup=1.0", "augment.crop=1")
    for name in ("one.png", "other.png"):
        save_picture(recipe, data, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
