"""What the images allow, and the part of a set-up whose replacement repairs it."""

from dataclasses import replace
from pathlib import Path

import pytest
from own_set_up import CPU, DATA, MODEL, OwnSetUp

from cnntune.config.recipe import AugmentSection
from cnntune.steps.sanity import augmentation, check
from cnntune.steps.sanity.references import Reference, far_below
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe

COLOURS = """

def data(*, seed):
    labels = torch.arange(240) % 2  # 0 is red, 1 is green
    images = 0.1 * torch.rand(240, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[torch.arange(240), labels] += 0.8
    return TensorDataset(images[:160], labels[:160]), TensorDataset(images[160:], labels[160:])
"""
DARKEST_PIXEL = MODEL + (
    "return Changed(nn.Linear(1, num_classes), lambda layers, x: layers(x.amin((1, 2, 3))[:, None])"
    ")\n"
)


@pytest.fixture
def own(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> OwnSetUp:
    return OwnSetUp(tmp_path, f"references_{request.node.name}"[:60], monkeypatch)


# Three standard errors at 90 % of 100 images are 9 points, at 90 % of 16 images 22.5.
@pytest.mark.parametrize(
    ("acc", "images", "is_far"),
    [(0.74, 100, True), (0.76, 100, False), (0.70, 16, False), (0.66, 16, True)],
)
def test_far_below_is_15_points_and_more_than_luck(acc: float, images: int, is_far: bool) -> None:
    assert far_below(acc, Reference("a small CNN", 0.9, images)) == is_far


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "severity"), [(AugmentSection(hue=0.5), "fail"), (AugmentSection(flip=True), "ok")]
)
def test_a_hue_that_hides_the_class_is_named_and_a_flip_that_does_not_is_not(
    own: OwnSetUp, settings: AugmentSection, severity: str
) -> None:
    subject = own.subject(data=COLOURS)
    recipe = subject.recipe.model_copy(update={"augment": settings})
    subject = replace(subject, recipe=recipe)
    (found,) = augmentation.augmentation(subject)
    assert found.severity == severity, found.evidence
    assert ("augment.hue = 0.5 alone" in found.evidence) == (severity == "fail")


NEVER_SETTLES = MODEL + (
    "return nn.Sequential(nn.Conv2d(in_shape[0], 8, 3), nn.BatchNorm2d(8, momentum=MOMENTUM),\n"
    "                         nn.ReLU(), nn.Flatten(), nn.Linear(288, num_classes))\n"
)
FAR_FROM_UNIT = """

def data(*, seed):
    x, y, val_x, val_y = some_digits()
    return TensorDataset(9 * x + 9, y), TensorDataset(9 * val_x + 9, val_y)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("momentum", "fails"), [("1e-5", True), ("1e-1", False)])
def test_statistics_settle(own: OwnSetUp, momentum: str, fails: bool) -> None:
    own.write(NEVER_SETTLES.replace("MOMENTUM", momentum), data=FAR_FROM_UNIT)
    recipe = load_recipe(str(own.folder / "own.toml"), ("data.normalize=false",))
    found = check(recipe, load_data(recipe, CPU, checked=False), CPU)
    texts = [f.evidence for f in found if (f.rule, f.severity) == ("train-eval", "fail")]
    assert any("of the initial values" in text for text in texts) == fails


@pytest.mark.slow
def test_batches_of_the_whole_set_are_too_few_steps(own: OwnSetUp) -> None:
    own.write(data=DATA + "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n")
    settings = ("train.batch_size=400", "train.lr=1e-3", "train.epochs=8")
    recipe = load_recipe(str(own.folder / "own.toml"), settings)
    found = list(check(recipe, load_data(recipe, CPU, checked=False), CPU))
    texts = [f.evidence for f in found if (f.rule, f.severity) == ("optimizer", "warn")]
    assert any("makes 8 steps of 8 epochs" in text for text in texts), found


@pytest.mark.slow
def test_a_network_that_sees_one_number_of_each_image_is_far_below_the_nearest_neighbour(
    own: OwnSetUp,
) -> None:
    found = [f for f in own.findings(DARKEST_PIXEL) if f.rule == "learns"]
    assert [f.severity for f in found] == ["fail"]
