"""`cnntune predict`: a trained network on image files."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Outcome, call
from PIL import Image

from cnntune.data.digits import digits
from cnntune.data.source import Images

RECIPE = """
name = "bars"
[data]
name = "folder"
path = "bars"
image_size = 12
color = "grey"
[model]
name = "small-cnn"
width = 8
depth = 2
[train]
batch_size = 8
epochs = 12
lr = 0.1
"""
SIDE = 12  # pixels
OWN_DATA = """
import torch
from torch.utils.data import TensorDataset

def build(*, seed: int):
    images = torch.rand(20, 3, 8, 8)
    labels = (images.mean((1, 2, 3)) > 0.5).long()
    return TensorDataset(images, labels), TensorDataset(images, labels)
"""


def bar(*, upright: bool, at: int) -> Image.Image:
    """A white bar of two pixels on black."""
    image = Image.new("L", (SIDE, SIDE))
    box = (at, 0, at + 2, SIDE) if upright else (0, at, SIDE, at + 2)
    image.paste(255, box)
    return image


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a network that tells upright bars from flat ones has been trained."""
    folder = tmp_path_factory.mktemp("bars")
    for name, upright in (("upright", True), ("flat", False)):
        (folder / "bars" / name).mkdir(parents=True)
        for at in range(SIDE - 2):
            for copy in range(3):  # a grey level of its own: no image is a copy of another
                image = bar(upright=upright, at=at).point(lambda v, c=copy: v * (8 + c) // 10)
                image.save(folder / "bars" / name / f"{at}-{copy}.png")
    (folder / "cnntune.toml").write_text(RECIPE)
    outcome = call("train", "--json", cwd=folder)
    assert outcome.code == 0, outcome.err
    assert outcome.document["val_acc"] == 1.0
    shutil.copy(folder / "runs/bars/train-0001/best.pt", folder / "best.pt")
    (folder / "new").mkdir()
    bar(upright=True, at=5).save(folder / "new" / "a.png")
    bar(upright=False, at=3).resize((60, 60)).convert("RGB").save(folder / "new" / "b.bmp")
    return folder


def predict(folder: Path, *words: str) -> Outcome:
    return call("predict", *words, cwd=folder)


def test_a_network_classifies_new_files_of_other_sizes_and_colours(trained: Path) -> None:
    document = predict(trained, "best.pt", "new", "--json").document
    found = {one["path"]: one["label"] for one in document["predictions"]}
    assert found == {"new/a.png": "upright", "new/b.bmp": "flat"}
    assert document["classes"] == ["flat", "upright"]
    for one in document["predictions"]:
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert one["probability"] == max(one["probabilities"].values())


def test_the_weights_alone_are_enough(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "best.pt", tmp_path / "copied.pt")
    shutil.copy(trained / "new" / "a.png", tmp_path)
    outcome = predict(tmp_path, "copied.pt", "a.png")
    assert outcome.code == 0
    assert "upright" in outcome.out


def test_probabilities_are_those_of_the_validation_in_training(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("digits")
    words = ("--set", "data.size=200", "--set", "train.epochs=2", "--set", "model.width=4")
    outcome = call("train", "digits", *words, "--json", "--no-test", cwd=folder)
    run = folder / outcome.document["run"]
    rows = (run / "predictions.csv").read_text().splitlines()
    val = digits(seed=0, size=200).val
    assert isinstance(val, Images)
    for index, (pixels, row) in enumerate(zip(val.pixels, rows[1:], strict=True)):
        Image.fromarray(pixels[0].numpy()).save(folder / f"{index:03d}.png")
        assert row.split(",")[1] == str(int(val.labels[index]))
    found = predict(folder, str(run / "best.pt"), str(folder), "--json").document["predictions"]
    ours = [(one["label"], round(one["probability"], 4)) for one in found]
    in_training = [(row.split(",")[2], round(float(row.split(",")[3]), 4)) for row in rows[1:]]
    assert ours == in_training


def test_a_file_that_is_no_image_is_skipped_and_named(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "new" / "a.png", tmp_path)
    (tmp_path / "b.png").write_text("no image")
    best = str(trained / "best.pt")
    outcome = predict(tmp_path, best, "a.png", "b.png", "--json")
    assert outcome.code == 0
    (skipped,) = outcome.document["skipped"]
    assert skipped["path"] == "b.png"
    assert "is not an image" in skipped["reason"]
    alone = predict(tmp_path, best, "b.png")
    assert (alone.code, alone.out) == (2, "")
    assert alone.err.splitlines()[-1].startswith("b.png: is not an image")


def test_what_is_no_best_pt_is_refused_in_one_line(trained: Path, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    (tmp_path / "torn.pt").write_bytes((trained / "best.pt").read_bytes()[:500])
    image = str(trained / "new" / "a.png")
    for words, expected in (
        (("none.pt", image), "none.pt: no such file; allowed: a best.pt"),
        (("other.pt", image), "other.pt: has no recipe and no preprocessing"),
        (("torn.pt", image), "torn.pt: cannot be read as a best.pt"),
        ((str(trained / "best.pt"), "none.png"), "none.png: no such file"),
        ((str(trained / "best.pt"),), "predict: needs IMAGES..., or --onnx FILE"),
    ):
        outcome = predict(tmp_path, *words)
        assert outcome.code == 2
        (line,) = outcome.err.splitlines()
        assert line.startswith(expected)


def test_a_folder_in_place_of_the_weights_names_those_in_it(trained: Path) -> None:
    outcome = predict(trained, "runs", "new")
    assert outcome.code == 2
    assert "did you mean runs/bars/train-0001/best.pt?" in outcome.err


def test_preprocessing_of_user_code_is_not_known_and_this_is_said(tmp_path: Path) -> None:
    (tmp_path / "mydata.py").write_text(OWN_DATA)
    (tmp_path / "cnntune.toml").write_text('[data]\nname = "mydata:build"\n[train]\nepochs = 1\n')
    run = call("train", "--json", cwd=tmp_path).document["run"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    document = predict(tmp_path, f"{run}/best.pt", "a.png", "--json").document
    (finding,) = document["findings"]
    assert (finding["rule"], finding["severity"]) == ("preprocessing", "warn")
    assert "mydata:build" in finding["evidence"]


def test_onnx_runtime_gives_the_same_probabilities(trained: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    pytest.importorskip("onnxscript", reason="the extra [onnx] is not installed")
    path = tmp_path / "bars.onnx"
    words = ("best.pt", "new/a.png", "--onnx", str(path), "--json")
    document = predict(trained, *words).document
    assert document["onnx"]["path"] == str(path)
    assert document["onnx"]["difference"] < 1e-5
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    images = np.stack([np.asarray(bar(upright=True, at=5))[None]] * 3)
    (found,) = session.run(None, {"pixels": images})
    assert found.shape == (3, 2)
    assert names[int(found[0].argmax())] == "upright"
    ours = document["predictions"][0]["probability"]
    assert float(found[0].max()) == pytest.approx(ours, abs=1e-4)


def test_without_its_packages_onnx_is_refused_before_anything_is_read(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntune.steps.onnx_export.find_spec", lambda _: None)
    outcome = predict(trained, "best.pt", "--onnx", "x.onnx")
    assert outcome.code == 2
    assert "pip install 'cnntune[onnx]'" in outcome.err
    packages = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert len(packages["project"]["optional-dependencies"]["onnx"]) == 3


def test_mistakes_are_in_the_document_the_folder_and_the_screen(trained: Path) -> None:
    run = trained / "runs/bars/train-0001"
    stored = json.loads((run / "errors.json").read_text())
    assert stored["accuracy"] == 1.0
    assert [one["name"] for one in stored["classes"]] == ["flat", "upright"]
    assert (run / "predictions.csv").read_text().startswith("image,label,predicted,probability")
    words = ("--set", "train.epochs=1", "--set", "train.lr=1e-6", "--no-test")
    outcome = call("train", *words, cwd=trained)
    assert "validation images wrong" in outcome.out
    assert "calibration: probabilities are" in outcome.out
