"""What `init` finds in a folder of images, and what it proposes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import call
from PIL import Image
from torch import Tensor

from cnntune.cli.init import _about_sets
from cnntune.data.survey import Survey, survey
from cnntune.errors import DataError
from cnntune.steps.inspect import first_recipe
from cnntune.steps.inspect.first_recipe import CANDIDATES, mirrored, propose

CPU = torch.device("cpu")


def bars(where: list[tuple[slice, slice]], count: int = 40) -> tuple[Tensor, Tensor]:
    """Noisy thumbnails, each with the bar of its class."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.rand(count * len(where), 3, 16, 16, generator=generator)
    labels = torch.arange(len(images)) % len(where)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, where[label][0], where[label][1]] += 0.7
    return images, labels


LEFT, RIGHT = (slice(None), slice(2, 6)), (slice(None), slice(10, 14))
TOP, BOTTOM = (slice(2, 6), slice(None)), (slice(10, 14), slice(None))


def test_classes_that_a_mirror_swaps_are_not_flipped() -> None:
    flip, finding = mirrored(*bars([LEFT, RIGHT]), colour=True)
    assert not flip
    assert "100% of 80 images get their class, mirrored 0%" in finding.evidence


def test_classes_that_look_the_same_in_a_mirror_are_flipped() -> None:
    flip, finding = mirrored(*bars([TOP, BOTTOM]), colour=False)
    assert flip
    assert "100% of 80 images get their class, mirrored 100%" in finding.evidence


@pytest.mark.parametrize("colour", [True, False])
def test_where_pixels_tell_no_class_only_colour_images_are_flipped(colour: bool) -> None:
    images, labels = bars([TOP, TOP])
    flip, finding = mirrored(images, labels, colour=colour)
    assert flip == colour
    assert finding.evidence.startswith("pixels alone tell no class here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 grey images of a cat and 11 of a dog; two of them are the same and one is broken."""
    generator = np.random.default_rng(0)
    for name, count in (("cat", 20), ("dog", 10)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = generator.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number:02d}.png")
    (tmp_path / "dog" / "10.png").write_bytes((tmp_path / "cat" / "00.png").read_bytes())
    (tmp_path / "cat" / "19.png").write_bytes(b"not an image")
    return tmp_path


def found(folder: Path) -> Survey:
    return survey(folder, val_fraction=0.2, test_fraction=0.1)


def test_a_folder_is_counted_and_what_is_wrong_with_it_is_named(folder: Path) -> None:
    about = found(folder)
    assert about.per_class == {"cat": 20, "dog": 11}
    assert (about.size, about.grey, about.long, about.sampled) == (28, True, 0.0, 31)
    assert len(about.thumbnails) == len(about.labels) == 30
    (broken,) = about.unreadable
    assert broken.startswith(f"{folder / 'cat/19.png'}: is not an image")
    assert about.copies == about.conflicts == ((folder / "cat/00.png", folder / "dog/10.png"),)


def test_a_split_folder_needs_no_fractions_and_copies_across_the_sets_are_named(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.mktemp("split")
    for name in ("train", "val"):
        shutil.copytree(folder, top / name)
    for file in (top / "val").rglob("*.png"):  # all but one differ from those of training
        if file.name != "05.png":
            file.write_bytes(file.read_bytes() + b"\0")
    (top / "val/cat/05.png").unlink()
    told = {one.evidence: one.advice for one in first_recipe._about_images(found(top))}
    assert any("2 images in more than one class" in evidence for evidence in told)
    same = f"{top / 'train/dog/05.png'} = {top / 'val/dog/05.png'}"
    assert f"1 file equal to another, byte for byte: {same}" in told
    (about_test,) = (text for text in told if text.startswith("train and val have no test folder"))
    assert "no test set" in about_test
    fractions = _about_sets(found(folder))
    assert (fractions.count("val_fraction"), fractions.count("test_fraction")) == (1, 1)
    assert _about_sets(found(top)) == "# val/ is the validation set"
    (top / "val").rename(top / "valid")
    shutil.copytree(folder, top / "test")
    assert _about_sets(found(top)).splitlines() == [
        "# valid/ is the validation set",
        "# test/ is the test set: evaluated once, by `cnntune train`",
    ]
    assert not [f for f in first_recipe._about_images(found(top)) if "test folder" in f.evidence]


def test_all_broken_files_are_named_and_of_many_the_first_five(folder: Path) -> None:
    def told() -> str:
        findings = first_recipe._about_images(found(folder))
        return next(one.evidence for one in findings if "cannot be read" in one.evidence)

    for name in ("cat/03.png", "dog/02.png"):
        (folder / name).write_bytes(b"not an image")
    for name in ("cat/03.png", "cat/19.png", "dog/02.png"):
        assert f"{folder / name}: is not an image" in told()
    assert "more" not in told()
    for number in range(4, 8):
        (folder / f"dog/{number:02d}.png").write_bytes(b"not an image")
    assert told().startswith("7 of 31 files that were tried cannot be read: ")
    assert told().endswith("; and 2 more")
    assert told().count("is not an image") == 5


def test_images_of_several_sizes_get_the_largest_square_that_most_of_them_fill(
    tmp_path: Path,
) -> None:
    for name, size in (("a", (100, 160)), ("b", (300, 100))):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", size, (9 * number, 0, 0)).save(tmp_path / name / f"{number}.png")
    about = found(tmp_path)
    assert (about.size, about.grey, about.long) == (96, False, 1.0)


def test_a_folder_without_a_readable_image_is_an_error_that_shows_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of its 8 images can be read\n.*a/0.png: is not an"):
        found(tmp_path)
    with pytest.raises(DataError, match=r"b/0.png: is not an image.*\nand 3 more$"):
        found(tmp_path)


def test_the_first_network_that_an_hour_is_enough_for_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = dict(zip((str(one) for one in CANDIDATES), (4.0, 2.0, 1.0, 0.5), strict=True))
    # 22 images train, 6 validate: 50 trials x 3 epochs x (22 + 6 / 3) images / 8 = 450 steps
    monkeypatch.setattr(first_recipe, "_step_seconds", lambda model, *_: seconds[str(model)] * 7)
    first = propose(found(folder), CPU)
    assert first.batch_size == 8
    assert [cost.model for cost in first.tried] == list(CANDIDATES[:3])
    assert first.network.seconds == pytest.approx(450 * 7)


def test_where_nothing_can_be_searched_in_an_hour_the_smallest_is_proposed_with_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_recipe, "AN_HOUR", 0.0)
    monkeypatch.setattr(first_recipe, "_step_seconds", lambda *_: 1.0)
    first = propose(found(folder), CPU)
    assert first.network.model == CANDIDATES[-1]
    assert first.findings[0].severity == "warn"


def test_init_says_what_is_wrong_with_the_images_and_writes_the_recipe(folder: Path) -> None:
    outcome = call("init", ".", "--device", "cpu", "--json", cwd=folder)
    assert outcome.code == 0, outcome.err
    warnings = [f["evidence"] for f in outcome.document["findings"] if f["severity"] == "warn"]
    assert any("1 of 31 files that were tried cannot be read: cat/19.png" in w for w in warnings)
    assert any("1 image in more than one class: cat/00.png = dog/10.png" in w for w in warnings)
    text = (folder / "cnntune.toml").read_text()
    assert "flip = false" in text
    assert 'color = "grey"' in text
    assert "image_size = 28" in text
