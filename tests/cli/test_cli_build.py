"""`cnntune init` and `cnntune inspect`: from a folder of images to a network and what it costs."""

from pathlib import Path

import pytest
from commands import call
from PIL import Image

from cnntune.steps.inspect import first_recipe
from cnntune.training.open_recipe import load_recipe


@pytest.fixture(autouse=True)
def no_network_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes seconds, and tests/steps/test_first_recipe.py does it."""
    monkeypatch.setattr(first_recipe, "_step_seconds", lambda *_: 0.1)


def images(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), side: int = 70) -> None:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            colour = (100 * label, 20 * number, 50)
            Image.new("RGB", (side, side + 20), colour).save(folder / name / f"{number}.png")


def test_init_writes_a_recipe_for_the_images_that_inspect_takes(tmp_path: Path) -> None:
    images(tmp_path / "pets")
    written = call("init", "pets", "--json", cwd=tmp_path)
    assert written.code == 0, written.err
    advice = written.document["findings"][-1]
    assert advice["rule"] == "transfer"
    # Of 10 images a class 2 are for validation and 1 for the test.
    assert "7 training images per class (little)" in advice["evidence"]
    text = (tmp_path / "cnntune.toml").read_text()
    assert text.startswith("# 20 images of 2 classes in pets\n")
    assert "image_size = 64 " in text  # 70 pixels fill 64, not 96
    small = ("--set", "model.name=small-cnn")  # a ResNet-18 takes long to inspect
    inspected = call("inspect", *small, "--json", cwd=tmp_path)
    assert inspected.code == 0, inspected.err
    assert inspected.document["layers"][-1]["output"] == [2]


@pytest.mark.parametrize(
    "name", ["it's", 'say "cheese"', "back\\slash", "two words", "Blümchen", "a\nb", "x" * 100]
)
def test_init_writes_a_recipe_for_a_folder_of_any_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path / name)
    assert call("init", name, cwd=tmp_path).code == 0
    monkeypatch.chdir(tmp_path)
    assert load_recipe(None).data.arguments["path"] == name


def test_a_folder_whose_name_is_no_text_is_one_line(tmp_path: Path) -> None:
    images(tmp_path / "caf\udce9")  # Latin-1, as old archives have it
    outcome = call("init", "caf\udce9", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err == "'caf\\udce9': a recipe cannot hold what is no Unicode\n"


def test_the_recipe_of_init_trains_for_one_epoch_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path / "pets")
    call("init", "pets", cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_recipe(None, ["train.epochs=1"]).train.epochs == 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.image_size=7", "--set: data.image_size: must be >= 8 (got 7)"),
        ("data.val_fraction=0", "data.val_fraction must be > 0 here (got 0)"),
    ],
)
def test_a_setting_that_leaves_nothing_to_look_at_is_named(
    tmp_path: Path, setting: str, said: str
) -> None:
    images(tmp_path / "pets")
    call("init", "pets", cwd=tmp_path)
    outcome = call("inspect", "--set", setting, cwd=tmp_path)
    assert outcome.code == 2
    assert said in outcome.err


def test_without_a_recipe_here_it_is_said_that_the_digits_are_used(tmp_path: Path) -> None:
    assert call("init", "nowhere", cwd=tmp_path).code == 2
    outcome = call("inspect", "--json", cwd=tmp_path)
    note = outcome.document["findings"][0]
    assert (note["rule"], note["severity"]) == ("recipe", "info")
    assert note["evidence"] == "no cnntune.toml here: using the digits recipe"
    assert outcome.err.startswith("no cnntune.toml here: using the digits recipe\n")
    named = call("inspect", "digits", "--json", cwd=tmp_path)
    assert "recipe" not in [finding["rule"] for finding in named.document["findings"]]


def test_a_recipe_without_data_is_said_to_mean_the_digits(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text("[model]\nwidth = 4\n")
    (tmp_path / "space.toml").write_text("[space]\ntrain.lr = { log = [1e-3, 1] }\n")
    for file, more in (
        ("small.toml", ""),
        ("space.toml", "; to search over a command, type it after --"),
    ):
        outcome = call("inspect", file, "--json", cwd=tmp_path)
        note = outcome.document["findings"][0]
        assert (note["rule"], note["severity"]) == ("recipe", "info")
        assert note["evidence"] == f"{file}: has no data.name: using the digits{more}"
    named = call("inspect", "small.toml", "--set", "data.name=digits", "--json", cwd=tmp_path)
    assert "recipe" not in [finding["rule"] for finding in named.document["findings"]]


def test_init_leaves_a_recipe_that_is_there_alone(tmp_path: Path) -> None:
    images(tmp_path / "pets")
    (tmp_path / "cnntune.toml").write_text("mine")
    outcome = call("init", "pets", cwd=tmp_path)
    assert outcome.code == 2
    assert "exists already" in outcome.err
    assert (tmp_path / "cnntune.toml").read_text() == "mine"


def test_init_without_images_is_one_line(tmp_path: Path) -> None:
    outcome = call("init", cwd=tmp_path)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1


def test_inspect_counts_lenet_as_published(tmp_path: Path) -> None:
    words = ("--model", "lenet5", "--input", "1x32x32", "--classes", "10", "--json")
    document = call("inspect", *words, cwd=tmp_path).document
    assert document["parameters"] == 61_706  # LeCun et al. 1998, with full connections in C3
    assert document["receptive_field"] == 32
    keys = {"name", "type", "output", "parameters", "multiply_adds", "receptive_field"}
    assert keys | {"activation_std", "gradient_std"} <= set(document["layers"][0])


def test_inspect_writes_a_picture_of_an_augmented_batch(tmp_path: Path) -> None:
    outcome = call("inspect", "digits", "--augment", "batch.png", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "batch.png") as picture:
        assert picture.format == "PNG"


def test_flips_of_digits_warn_that_labels_may_change(tmp_path: Path) -> None:
    words = ("--set", "augment.flip_vertical=true", "--json")
    findings = call("inspect", "digits", *words, cwd=tmp_path).document["findings"]
    assert any(f["severity"] == "warn" and "may change" in f["evidence"] for f in findings)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "nope"), "model.name: must be"),
        (("--model", "lenet5", "--input", "3x4"), "--input: must be channels x height x width"),
        (("digits", "--model", "lenet5"), "--model: takes no RECIPE"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    outcome = call("inspect", *words, cwd=tmp_path)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err
