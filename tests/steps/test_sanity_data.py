"""Labels and splits that cannot be trained on, or only badly, are findings and no refusals."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import call
from own_set_up import CPU, DATA, HEALTHY, OwnSetUp
from PIL import Image

from cnntune.config.recipe import parse
from cnntune.errors import DataError
from cnntune.findings import Finding
from cnntune.steps.sanity.inputs import inputs
from cnntune.steps.sanity.labels import labels
from cnntune.steps.sanity.split import split
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.thumbnails import Pictures
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe

BOTH = "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
MINUS_ONE = DATA + "    y[::50] = -1\n" + BOTH
ONE_CLASS = DATA + "    y, val_y = torch.zeros_like(y), torch.zeros_like(val_y)\n" + BOTH
NO_VALIDATION = DATA + "    return TensorDataset(x, y), TensorDataset(val_x[:0], val_y[:0])\n"
NAMED = DATA + (
    "    train, val = TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
    "    train.classes = list('abcdefgh')\n    return train, val\n"
)
NO_EIGHTS = DATA + "    return TensorDataset(x[y != 8], y[y != 8]), TensorDataset(val_x, val_y)\n"
MOSTLY_WRONG = (
    DATA
    + (
        "    wrong = torch.arange(len(y)) % 4 > 0\n"
        "    generator = torch.Generator().manual_seed(1)\n"
        "    y[wrong] = torch.randint(10, y[wrong].shape, generator=generator)\n"
    )
    + BOTH
)
A_THIRD_WRONG = MOSTLY_WRONG.replace("% 4 > 0", "% 3 == 0")
# Ten patterns with a little noise, so that nothing but the labels is doubtful.
TEN_PATTERNS = (
    "\n\ndef data(*, seed):\n"
    "    torch.manual_seed(0)\n"
    "    y, val_y = torch.arange(600) % 10, torch.arange(300) % 10\n"
    "    patterns = torch.rand(10, 1, 8, 8)\n"
    "    x = patterns[y] + 0.1 * torch.randn(600, 1, 8, 8)\n"
    "    val_x = patterns[val_y] + 0.1 * torch.randn(300, 1, 8, 8)\n"
)
NOISE = (
    "    y = torch.where(torch.rand(len(y)) < 0.25, torch.randint(10, y.shape), y)\n"
    "    other = torch.randint(10, val_y.shape)\n"
    "    val_y = torch.where(torch.rand(len(val_y)) < 0.25, other, val_y)\n"
)
ONE_TOO_FAR = "    y[::3], val_y[::3] = (y[::3] + 1) % 10, (val_y[::3] + 1) % 10\n"
FRAMES = (
    "\n\ndef data(*, seed):\n"
    "    x = F.interpolate(torch.rand(300, 1, 4, 4), size=16, mode='bicubic')\n"
    "    y = torch.arange(300) % 3\n"
    "    frames = x[:100].roll(1, dims=3)\n"
    "    return TensorDataset(x, y), TensorDataset(frames, y[:100])\n"
)


STAMPED = DATA + "    x[:, 0, 0, 0] = y / 10\n" + BOTH
NOISY_STAMP = DATA + "    x[:, 0, 0, 0] = y / 10 + 0.1 * torch.rand(len(y))\n" + BOTH
PATTERNS = (
    "\n\ndef data(*, seed):\n"
    "    generator = torch.Generator().manual_seed(0)\n"
    "    x = torch.rand(300, 3, 4, 4, generator=generator)\n"
    "    x = F.interpolate(x, size=24, mode='bicubic')\n"
    "    y = torch.arange(300) % 3\n"
)
# Each image in two variants, and then the split: every other one lies across it.
VARIANTS = PATTERNS + (
    "    variants = 0.9 * x.flip(3).roll((2, -2), dims=(2, 3))\n"
    "    train = torch.cat([x[:200], variants[:100]]), torch.cat([y[:200], y[:100]])\n"
    "    return TensorDataset(*train), TensorDataset(variants[100:200], y[100:200])\n"
)
NO_VARIANTS = PATTERNS + (
    "    return TensorDataset(x[:200], y[:200]), TensorDataset(x[200:], y[200:])\n"
)
# A tenth of the images of class 9, a ninth of class 8 ... for training; equal shares beside them.
LONG_TAIL = DATA + (
    "    kept = torch.arange(len(y)) % (1 + y) == 0\n"
    "    return TensorDataset(x[kept], y[kept]), TensorDataset(val_x, val_y)\n"
)
DEFAULT_LABEL = DATA + "    y[::2] = 0\n" + BOTH
TWO_IMAGES = DATA + "    return TensorDataset(x, y), TensorDataset(val_x[:2], val_y[:2])\n"


# 200 of the 4,096 pictures of 3x4 black and white pixels, and 100: some are equal by chance.
BLACK_AND_WHITE = (
    "\n\ndef data(*, seed):\n"
    "    x = torch.rand(300, 1, 3, 4, generator=torch.Generator().manual_seed(0)).round()\n"
    "    y = torch.arange(300) % 3\n"
    "    return TensorDataset(x[:200], y[:200]), TensorDataset(x[200:], y[200:])\n"
)
COPIED = PATTERNS + "    return TensorDataset(x, y), TensorDataset(x[:60], y[:60])\n"


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> OwnSetUp:
    return OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)


def fails(findings: list[Finding], rule: str) -> str:
    """The evidence of a rule's failures."""
    return " ".join(f.evidence for f in findings if f.rule == rule and f.severity == "fail")


def test_small_pictures_that_coincide_by_chance_are_no_copies(own: OwnSetUp) -> None:
    by_chance = split(own.subject(data=BLACK_AND_WHITE))
    assert "by chance" in by_chance[0].evidence
    assert by_chance[0].severity == "info"


def test_copied_patterns_do_not_coincide_by_chance(own: OwnSetUp) -> None:
    text = "100.0% of the validation images are training images"
    assert text in fails(split(own.subject(data=COPIED)), "split")


def test_channels_interleaved_in_the_rows_fail(own: OwnSetUp) -> None:
    # Rows 0, 3, 6 ... of the stored image are red, so that a row resembles the third one after it.
    mixed = PATTERNS + (
        "    x = x.permute(0, 2, 1, 3).reshape(300, 3, 24, 24)\n"
        "    return TensorDataset(x[:200], y[:200]), TensorDataset(x[200:], y[200:])\n"
    )
    assert "interleaved along the rows" in fails(inputs(own.subject(data=mixed)), "inputs")


def test_labels_of_minus_one_are_counted_and_the_rest_waits(own: OwnSetUp) -> None:
    findings = own.findings(data=MINUS_ONE)
    assert "8 of 400 training labels are outside 0 to 9: -1" in fails(findings, "labels")
    assert [f.rule for f in findings] == ["inputs", "labels", "skipped"]


def test_training_refuses_labels_that_sanity_judges(own: OwnSetUp) -> None:
    recipe = load_recipe(str(own.write(data=MINUS_ONE)))
    with pytest.raises(DataError, match=r"train labels must be 0 ... 9 \(got -1 ... 9\)"):
        load_data(recipe, CPU)


def test_more_classes_than_names_are_named(own: OwnSetUp) -> None:
    assert "0 to 7: 8, 9" in fails(own.findings(data=NAMED), "labels")


def test_a_single_class_fails(own: OwnSetUp) -> None:
    assert "all training images are of class 0" in fails(own.findings(data=ONE_CLASS), "labels")


def test_a_class_without_training_images_is_named(own: OwnSetUp) -> None:
    assert "1 of 10 classes have no training image: 8" in fails(
        own.findings(data=NO_EIGHTS), "labels"
    )


def test_without_validation_images_all_but_the_split_is_judged(own: OwnSetUp) -> None:
    findings = own.findings(data=NO_VALIDATION)
    assert "0 validation images, 400" in fails(findings, "split")
    by_rule = {finding.rule: finding.severity for finding in findings}
    assert by_rule["overfit-tiny"] == "ok"
    assert by_rule["learns"] == "info"


@pytest.mark.slow
def test_labels_of_which_most_are_wrong_fail_where_they_mislead_every_network(
    own: OwnSetUp,
) -> None:
    said = [f for f in own.findings(data=MOSTLY_WRONG) if f.rule == "labels"]
    assert said[0].severity == "fail"
    # Three in four are redrawn from ten classes: 0.75 * 0.9 of all are wrong.
    assert said[0].measured == pytest.approx(0.675, abs=0.1)


@pytest.mark.slow
def test_a_third_of_the_training_labels_wrong_is_a_remark(own: OwnSetUp) -> None:
    said = [f for f in own.findings(data=A_THIRD_WRONG) if f.rule == "labels"]
    assert said[0].severity in ("ok", "info")


def test_label_noise_in_both_sets_is_a_remark_with_a_figure(own: OwnSetUp) -> None:
    # A quarter is redrawn from ten classes: 0.25 * 0.9 of the labels are wrong.
    (said,) = labels(own.subject(data=TEN_PATTERNS + NOISE + BOTH))
    assert said.severity == "info"
    assert said.measured == pytest.approx(0.225, abs=0.1)


def test_labels_that_are_one_class_too_far_are_shifted_lists(own: OwnSetUp) -> None:
    (said,) = labels(own.subject(data=TEN_PATTERNS + ONE_TOO_FAR + BOTH))
    assert said.severity == "fail"
    assert "by one class" in said.evidence


@pytest.mark.slow
def test_pictures_that_often_have_two_labels_fail(own: OwnSetUp) -> None:
    # The first half again, each image under the next class.
    data = DATA + "    x, y = torch.cat([x, x[:200]]), torch.cat([y, (y[:200] + 1) % 10])\n" + BOTH
    said = [f for f in own.findings(data=data) if f.rule == "labels"]
    assert said[0].severity == "fail"
    assert said[0].measured == pytest.approx(200 / 600, abs=0.01)
    pairs = re.findall(r"training image (\d+) = training image (\d+)", said[0].evidence)
    assert [abs(int(one) - int(other)) for one, other in pairs] == [400] * 5
    assert said[0].evidence.endswith(" more")


def test_frames_of_one_film_on_both_sides_are_noticed(own: OwnSetUp) -> None:
    said = split(own.subject(data=FRAMES))[0]
    assert said.severity == "warn"
    assert "nearer to a training image" in said.evidence


@pytest.mark.parametrize(("data", "told"), [(STAMPED, 1), (NOISY_STAMP, 0)])
def test_a_pixel_that_tells_the_class_is_found(own: OwnSetUp, data: str, told: int) -> None:
    said = [f for f in inputs(own.subject(data=data)) if "alone reveals the class" in f.evidence]
    assert len(said) == told
    assert all("row 0, column 0" in f.evidence and f.measured == 1 / 64 for f in said)


def test_variants_of_one_image_on_both_sides_are_noticed(own: OwnSetUp) -> None:
    said = split(own.subject(data=VARIANTS))[0]
    assert said.severity == "fail"
    assert "100% of the validation images have a partner" in said.evidence
    assert said.measured == 1.0


def test_images_of_one_kind_are_no_partners(own: OwnSetUp) -> None:
    assert split(own.subject(data=NO_VARIANTS))[0].severity == "ok"


def test_equal_shares_for_validation_are_a_choice(own: OwnSetUp) -> None:
    assert split(own.subject(data=LONG_TAIL))[0].severity == "ok"


def test_a_class_that_alone_stands_out_in_training_is_noticed(own: OwnSetUp) -> None:
    said = split(own.subject(data=DEFAULT_LABEL))[0]
    assert said.severity == "warn"
    assert "other proportions in the validation set" in said.evidence


def test_two_validation_images_for_ten_classes_are_too_few(own: OwnSetUp) -> None:
    said = split(own.subject(data=TWO_IMAGES))[0]
    assert (said.severity, said.measured) == ("warn", 2.0)
    assert "each is worth 50% of accuracy" in said.evidence


def test_pictures_are_alike_bit_for_bit_or_by_shape(own: OwnSetUp) -> None:
    copies = "    x[1], x[2] = x[0], 0.5 * x[0]\n    return TensorDataset(x[:40], y[:40]), "
    subject = own.subject(HEALTHY, data=DATA + copies + "TensorDataset(val_x, val_y)\n")
    pictures = Pictures.of(subject.data.train, seed=0)
    assert len(torch.unique(pictures.digests)) == 39  # one of the forty is a copy
    likeness = pictures.small.flatten(1) @ pictures.small.flatten(1).T
    assert int((likeness > 0.9999).sum()) == 40 + 6  # each with itself, and three with two others


# Images that findings name


@pytest.mark.parametrize(
    ("change", "every", "told"),
    [
        ("x[::8] = 0.3", 8, "of the images have a single colour: training images "),
    ],
)
def test_images_that_stand_out_are_named(own: OwnSetUp, change: str, every: int, told: str) -> None:
    said = [f.evidence for f in inputs(own.subject(data=f"{DATA}    {change}\n{BOTH}"))]
    (named,) = [evidence.partition(told)[2] for evidence in said if told in evidence]
    indices = [int(number) for number in re.findall(r"\d+", named.partition(" and ")[0])]
    assert 1 < len(indices) <= 5
    assert all(index % every == 0 for index in indices)


def test_images_of_one_colour_are_not_taken_for_another_scale(own: OwnSetUp) -> None:
    # A grey image of one colour has channels that differ by a rounding: a factor of millions.
    grey = "    x = x.repeat(1, 3, 1, 1) + 1e-6 * torch.rand(len(x), 3, 1, 1)\n    x[::25] = 0.3\n"
    val = "    val_x = val_x.repeat(1, 3, 1, 1)\n"
    told, ok = inputs(own.subject(data=DATA + grey + val + BOTH))
    assert (told.severity, ok.severity) == ("info", "ok")
    assert re.search(r"sampled images have a single colour: training images \d+", told.evidence)


def test_files_that_are_in_both_parts_are_named_below_the_folder(
    tmp_path: Path,
) -> None:
    noise = np.random.default_rng(0)
    for part, count in (("train", 30), ("val", 20)):
        for name in ("Käfer im Gras", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{k}.png")
    copied = tmp_path / "val/Käfer im Gras/copy.png"
    copied.write_bytes((tmp_path / "train/Käfer im Gras/7.png").read_bytes())
    section = {"name": "folder", "path": str(tmp_path), "image_size": 8}
    recipe = parse({"data": section, "model": {"name": "small-cnn", "width": 4}}, file="r.toml")
    said = split(Subject.of(recipe, load_data(recipe, CPU), CPU))[0]
    assert said.evidence == (
        "2.4% of the validation images are training images:"  # 1 of 41
        " val/Käfer im Gras/copy.png = train/Käfer im Gras/7.png"
    )


# Classes with few images


def test_a_class_of_a_single_image_is_a_warning_with_its_name(own: OwnSetUp) -> None:
    alone = (
        "    kept = y != 8\n    kept[(y == 8).nonzero()[0]] = True\n"
        "    val_kept = val_y != 8\n"
        "    train = TensorDataset(x[kept], y[kept])\n"
        "    train.classes = [f'digit {k}' for k in range(10)]\n"
        "    return train, TensorDataset(val_x[val_kept], val_y[val_kept])\n"
    )
    subject = own.subject(data=DATA + alone)
    (said,) = [f for f in labels(subject) if f.severity == "warn"]
    assert said.evidence == (
        "class digit 8 has a single training image; no validation image of digit 8"
    )
    (missing,) = [f for f in split(subject) if "no validation image" in f.evidence]
    assert missing.severity == "info"
    assert missing.evidence.startswith("no validation image of digit 8 (1 for training)")


def test_learning_is_told_beside_chance_and_the_nearest_image(own: OwnSetUp) -> None:
    said = {f.rule: f.evidence for f in own.findings()}["learns"]
    assert re.search(
        r"by chance \(largest class\) 1\d\.\d%, by the nearest training image \d", said
    )


def test_where_there_is_only_one_image_the_other_checks_wait(own: OwnSetUp) -> None:
    same = DATA + "    x[:], val_x[:] = 0.5, 0.5\n" + BOTH
    outcome = call("sanity", str(own.write(data=same)), "--json", cwd=own.folder)
    failed = [f["evidence"] for f in outcome.document["findings"] if f["severity"] == "fail"]
    assert failed == ["all images are the same"]


def test_images_without_contrast_in_both_parts_have_the_same_contrast(own: OwnSetUp) -> None:
    grey = "torch.rand(len(x), 1, 1, 1)"
    levels = f"    x[:], val_x[:] = {grey}, {grey.replace('(x)', '(val_x)')}\n"
    subject = own.subject(data=DATA + levels + BOTH)
    assert not [f for f in split(subject) if "contrast" in f.evidence]
