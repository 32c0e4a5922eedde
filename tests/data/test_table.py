"""Images that a CSV file lists: which file, which class, which set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from PIL import Image

from cnntune.data.folder import FolderImages
from cnntune.data.source import Source
from cnntune.data.table import table
from cnntune.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty grey images in `images/`, the first ten dark."""
    (tmp_path / "images").mkdir()
    for number in range(20):
        level = number if number < 10 else 200 + number
        Image.new("L", (8, 8), level).save(tmp_path / "images" / f"{number:02d}.png")
    return tmp_path


def rows(last: str = "", ending: str = ".png") -> list[str]:
    return [f"{n:02d}{ending},{'dark' if n < 10 else 'light'}{last}" for n in range(20)]


def written(folder: Path, *lines: str, name: str = "labels.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def names(part: object) -> list[str]:
    assert isinstance(part, FolderImages)
    return [file.name for file in part.files]


def counts(source: Source) -> tuple[int, ...]:
    return tuple(len(names(part)) for part in (source.train, source.val, source.test))


def test_a_table_names_files_in_a_folder_beside_it_and_their_classes(folder: Path) -> None:
    source = table(path=written(folder, "file,label", *rows()), seed=0, image_size=8, color="grey")
    assert source.classes == ("dark", "light")
    assert counts(source) == (12, 4, 4)  # a fifth of each class twice
    pixels, label = source.train[0]  # type: ignore[index]
    assert (int(pixels[0, 0, 0]) > 100) == bool(label)
    together = [*names(source.train), *names(source.val), *names(source.test)]
    assert sorted(together) == [f"{number:02d}.png" for number in range(20)]


@pytest.mark.parametrize(
    ("heading", "ending", "keys"),
    [
        ("file_name,label", ".png", {}),  # metadata.csv of Hugging Face
        ("id,breed", "", {}),  # names without an ending
        ("Image_ID,Target", "", {}),
        ("picture,what", ".png", {"image_column": "picture", "label_column": "what"}),
    ],
)
def test_columns_are_found_by_their_names_or_named_by_the_recipe(
    heading: str, ending: str, keys: dict[str, Any], folder: Path
) -> None:
    path = written(folder, heading, *rows(ending=ending))
    assert counts(table(path=path, seed=0, **keys)) == (12, 4, 4)


def test_semicolons_and_a_byte_order_mark_are_read(folder: Path) -> None:
    lines = [line.replace(",", ";") for line in ("file,label", *rows())]
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert counts(table(path=str(folder / "labels.csv"), seed=0)) == (12, 4, 4)


def test_a_column_of_sets_splits_the_images(folder: Path) -> None:
    words = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2
    lines = [f"{row},{words[n % 10]}" for n, row in enumerate(rows())]
    source = table(path=written(folder, "file,label,split", *lines), seed=0)
    assert names(source.val) == ["06.png", "07.png", "16.png", "17.png"]
    assert names(source.test) == ["08.png", "09.png", "18.png", "19.png"]


def test_without_rows_for_validation_it_is_drawn_from_the_training_set(folder: Path) -> None:
    words = ["train"] * 8 + ["test"] * 2
    lines = [f"{row},{words[n % 10]}" for n, row in enumerate(rows())]
    source = table(path=written(folder, "file,label,split", *lines), seed=0, val_fraction=0.25)
    assert counts(source) == (12, 4, 4)
    assert names(source.test) == ["08.png", "09.png", "18.png", "19.png"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["name,label", *rows()], "data.image_column: cannot be told from the headings; allowed"),
        (["file,kind", *rows()], "data.label_column: cannot be told from the headings"),
        (["file,label"], "must have a line of headings, and a row per image"),
        (["file,label", *rows(), "20.png,light"], "1 files are not in"),
        (["file,label", *rows(), "00.png,light"], "00.png: has the labels dark and light"),
        (["file,label", *rows(), "00.png,dark"], "lists 1 files twice"),
        (["file,label", *rows(), "01.png,"], "row 22: no label"),
        (["file,label", *(f"{n:02d}.png,{n / 7}" for n in range(20))], "20 different values"),
        (["file,label", *(f"{n:02d}.png,a" for n in range(20))], "needs at least two classes"),
        (["file,label,set", *rows(",fold 1")], "sets must be train, training, val"),
        (["file,label,set", *rows(",test")], "no row is of the training set"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    lines: list[str], expected: str, folder: Path
) -> None:
    path = written(folder, *lines)
    with pytest.raises(DataError) as raised:
        table(path=path, seed=0)
    assert expected in raised.value.lines[0]
    assert raised.value.lines[0].startswith(path)


def test_init_recognises_a_table_a_metadata_file_and_an_archive(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    images = np.arange(20, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    np.savez(folder / "images.npz", x=images, y=np.arange(20) % 2)
    written(folder, "file,label", *rows())
    written(folder / "images", "file_name,label", *rows(), name="metadata.csv")
    for path, name in (("labels.csv", "csv"), ("images", "csv"), ("images.npz", "npz")):
        (folder / "cnntune.toml").unlink(missing_ok=True)
        assert call("init", path, cwd=folder).code == 0
        assert f'name = "{name}"' in (folder / "cnntune.toml").read_text()
        sets = ("--set", "train.epochs=1", "--set", "train.lr=1e-3", "--set", "train.batch_size=4")
        outcome = call("train", *sets, "--json", "--no-test", cwd=folder)
        assert outcome.code == 0, outcome.err
        assert outcome.document["val_images"] == 4


def test_init_finds_classes_one_folder_deeper(folder: Path) -> None:
    for number in range(20):
        name = "dark" if number < 10 else "light"
        target = folder / "deep" / "data" / name / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"{number:02d}.png").rename(target)
    assert call("init", "deep", cwd=folder).code == 0
    assert 'path = "deep/data"' in (folder / "cnntune.toml").read_text()
