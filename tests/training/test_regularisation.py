"""Early stopping, averaged weights, mixed images in training, and views of a test image."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchvision.transforms import v2

from cnntune.config.recipe import FinalTestSection, Recipe, parse
from cnntune.data import Data
from cnntune.data.parts import Names
from cnntune.errors import RecipeError
from cnntune.runs.run import Epoch, best_epoch
from cnntune.runs.study import Study
from cnntune.steps.train_run import final_test, train_and_keep
from cnntune.training.build import build_model, load_data
from cnntune.training.ema import WeightEma
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import train
from cnntune.training.tta import views

CPU = torch.device("cpu")
BLACK = torch.zeros(1, 1, 1, 1)
DIGITS = parse(
    {
        "name": "small",
        "data": {"size": 300, "val_fraction": 0.3, "test_fraction": 0.2},
        "model": {"width": 8, "depth": 2},
        "train": {"batch_size": 30, "epochs": 4, "threads": 1, "lr": 0.1, "precision": "float32"},
    },
    file="small",
)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(DIGITS, CPU)  # 150 images to train on


def run(data: Data, **values: object) -> list[Epoch]:
    keys = {key.replace("__", "."): value for key, value in values.items()}
    recipe = DIGITS.with_values(keys)  # type: ignore[arg-type]
    return [replace(row, seconds=0.0) for row in train(recipe, data, CPU)]


# Early stopping


def test_a_run_ends_after_as_many_epochs_without_a_better_one_as_it_has_patience(
    digits: Data,
) -> None:
    whole = run(digits, train__epochs=30)
    stopped = run(digits, train__epochs=30, train__patience=3)
    best = best_epoch(stopped)
    assert best is not None
    assert len(stopped) == best.epoch + 3 < 30
    assert stopped == whole[: len(stopped)]


def test_a_rate_that_learns_nothing_is_given_up_at_once(digits: Data) -> None:
    # Only the first epoch is better than none.
    assert len(run(digits, train__epochs=9, train__lr=1e-12, train__patience=1)) <= 3


def test_without_patience_a_run_has_all_its_epochs(digits: Data) -> None:
    assert len(run(digits, train__epochs=9, train__lr=1e-12)) == 9


# Averages


def test_an_average_is_torchs_with_a_decay_that_grows() -> None:
    model = nn.Linear(2, 1)
    average = WeightEma(model, 0.3)
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(8):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(step)
        # (1 + step) / (10 + step): 0.1, 0.18, 0.25, and from 4 / 13 = 0.31 on the 0.3 given.
        decay = [0.1, 2 / 11, 0.25, *[0.3] * 5][step]
        get_ema_multi_avg_fn(decay)(expected, list(model.parameters()), 0)
        average.update()
    for mine, theirs in zip(average.averages, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_constant_weight_is_its_own_average_and_two_swaps_are_none(digits: Data) -> None:
    model = build_model(DIGITS, digits)
    average = WeightEma(model, 0.9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(3):
        average.update()
    for _ in range(2):
        average.swap()
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, before[name])


def test_the_statistics_of_norms_are_averaged_too(digits: Data) -> None:
    model = build_model(DIGITS, digits)
    average = WeightEma(model, 0.5)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_mean is not None
    norm.running_mean.fill_(1.0)  # from 0
    average.update()
    average.swap()
    torch.testing.assert_close(norm.running_mean, torch.full_like(norm.running_mean, 0.9))


def test_a_row_measures_the_averaged_network_that_the_caller_holds(digits: Data) -> None:
    recipe = DIGITS.with_values({"train.ema": 0.95})
    model = build_model(recipe, digits)
    rows = []
    for row in train(recipe, digits, CPU, model=model):
        score = evaluate(model, digits.val)
        assert (score.loss, score.acc) == (row.val_loss, row.val_acc)
        rows.append(row)
    assert evaluate(model, digits.val).loss == rows[-1].val_loss


def test_averaging_does_not_change_what_is_trained(digits: Data) -> None:
    plain = run(digits)
    averaged = run(digits, train__ema=0.95)
    # The gradients are those of the weights that are trained, in both.
    assert [row.grad_norm for row in averaged] == [row.grad_norm for row in plain]
    assert [row.val_loss for row in averaged] != [row.val_loss for row in plain]


def test_averages_are_smoother_than_what_they_average(digits: Data) -> None:
    plain = run(digits, train__epochs=12, train__lr=0.4)
    averaged = run(digits, train__epochs=12, train__lr=0.4, train__ema=0.97)

    def roughness(rows: list[Epoch]) -> float:
        return sum(abs(a.val_loss - b.val_loss) for a, b in pairwise(rows[3:]))

    assert roughness(averaged) < roughness(plain)


def test_an_averaged_run_is_repeated_bit_for_bit(digits: Data) -> None:
    values = {"train__ema": 0.9, "augment__mixup": 0.3, "augment__rotate": 10.0}
    assert run(digits, **values) == run(digits, **values)


# Mixed images


@pytest.mark.parametrize("key", ["augment__mixup", "augment__cutmix"])
def test_a_network_learns_from_mixed_images(digits: Data, key: str) -> None:
    rows = run(digits, train__epochs=40, train__lr=0.2, **{key: 1.0})
    assert rows[-1].val_acc > 0.75  # of 10 classes, after 200 steps
    assert rows[-1].train_loss < rows[0].train_loss


def test_streamed_and_resident_images_are_augmented_alike(digits: Data) -> None:
    recipe = DIGITS.with_values({"augment.cutmix": 1.0, "augment.zoom": 0.2, "train.epochs": 1})
    streamed = load_data(recipe.with_values({"data.stream": True}), CPU)
    assert streamed.train is not digits.train
    one, other = (list(train(recipe, data, CPU)) for data in (digits, streamed))
    assert one[0].grad_norm == other[0].grad_norm
    assert one[0].val_loss == other[0].val_loss


# Views of a test image


def pictures() -> Tensor:
    return torch.rand(2, 1, 14, 14, generator=torch.Generator().manual_seed(0))


def test_one_view_is_the_image_and_a_flip_adds_its_mirror_image() -> None:
    images = pictures()
    (only,) = views(FinalTestSection(), BLACK)
    assert torch.equal(only(images), images)
    one, other = views(FinalTestSection(views="flip"), BLACK)
    assert torch.equal(one(images), images)
    assert torch.equal(other(images), images.flip(3))


@pytest.mark.parametrize(("name", "count"), [("five-crop", 5), ("ten-crop", 10)])
def test_crops_are_torchvisions_of_an_image_enlarged_by_two_pixels(name: str, count: int) -> None:
    # 14 * 256 / 224 = 16 pixels.
    images = pictures()
    enlarged = v2.functional.resize(images, [16, 16], antialias=True)
    theirs = v2.FiveCrop(14)(enlarged) if count == 5 else v2.TenCrop(14)(enlarged)
    ours = [view(images) for view in views(FinalTestSection(views=name), BLACK)]  # type: ignore[arg-type]
    assert len(ours) == count
    for image in theirs:
        assert any(torch.allclose(image, mine, atol=1e-5) for mine in ours)


def test_a_larger_scale_cuts_the_middle_and_a_smaller_one_stands_on_black() -> None:
    images, black = torch.ones(1, 1, 8, 8), torch.full((1, 1, 1, 1), -3.0)
    small, large = (view(images) for view in views(FinalTestSection(scales=[0.5, 2.0]), black))
    expected = torch.full((1, 1, 8, 8), -3.0)
    expected[:, :, 2:6, 2:6] = 1.0
    torch.testing.assert_close(small, expected)
    torch.testing.assert_close(large, images)


def test_probabilities_are_averaged_and_not_logits() -> None:
    class Twice(nn.Module):
        """Logits (0, 4) for an image and (1, 0) for its mirror image."""

        def forward(self, x: Tensor) -> Tensor:
            left = x[:, 0, 0, 0] > 0
            return torch.where(left[:, None], torch.tensor([0.0, 4.0]), torch.tensor([1.0, 0.0]))

    class Part:
        labels, image_size, waited_seconds = torch.tensor([1]), (1, 2), 0.0
        names = Names()

        def __len__(self) -> int:
            return 1

        def batches(self, order: Tensor, batch_size: int):  # type: ignore[no-untyped-def]
            yield torch.tensor([[[[1.0, 0.0]]]]), self.labels

    both = views(FinalTestSection(views="flip"), BLACK)
    score = evaluate(Twice(), Part(), views=both)
    mean = (1 / (1 + math.exp(-4)) + 1 / (1 + math.exp(1))) / 2
    assert score.loss == pytest.approx(-math.log(mean))
    assert score.acc == 1.0


def finished_run(tmp_path: Path, recipe: Recipe, data: Data) -> dict[str, float]:
    study = Study(tmp_path / "runs")
    done = study.run("train-0001")
    model = build_model(recipe, data)
    for _ in train_and_keep(recipe, data, CPU, model, done):
        pass
    measured, _ = final_test(model, data, study, done, again=False)
    reference = build_model(recipe, data)
    reference.load_state_dict(torch.load(done.path / "best.pt", weights_only=True)["weights"])
    assert data.test is not None
    images, labels = next(data.test.batches(torch.arange(len(data.test)), len(data.test)))
    reference.eval()
    with torch.no_grad():
        shown = (images, images.flip(3)) if recipe.test.views == "flip" else (images,)
        p = torch.stack([reference(image).softmax(1) for image in shown]).mean(0)
    assert measured["test_loss"] == pytest.approx(float(F.nll_loss(p.log(), labels)), rel=1e-4)
    assert measured["test_acc"] == pytest.approx(float((p.argmax(1) == labels).float().mean()))
    return measured


def test_the_final_test_looks_as_the_recipe_says(tmp_path: Path, digits: Data) -> None:
    recipe = DIGITS.with_values({"test.views": "flip", "train.epochs": 2})
    assert finished_run(tmp_path, recipe, digits)["test_views"] == 2


def test_the_best_weights_are_the_averaged_ones(tmp_path: Path, digits: Data) -> None:
    recipe = DIGITS.with_values({"train.ema": 0.95})
    assert "test_views" not in finished_run(tmp_path, recipe, digits)
    held = torch.load(tmp_path / "runs/train-0001/best.pt", weights_only=True)
    rows = run(digits, train__ema=0.95)
    best = best_epoch(rows)
    assert best is not None
    model = build_model(recipe, digits)
    model.load_state_dict(held["weights"])
    assert evaluate(model, digits.val).loss == best.val_loss
    assert held["classes"] == list("0123456789")
    torch.testing.assert_close(held["mean"], digits.normalise.mean.flatten())


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("test.scales", [], "must hold at least one scale"),
        ("test.scales", [1.0, 0.0], "must be > 0"),
        ("test.views", "six-crop", "one of one, flip, five-crop, ten-crop"),
        ("train.ema", 1.0, "must be < 1"),
        ("train.patience", -1, "must be >= 0"),
    ],
)
def test_what_cannot_be_is_told(key: str, value: object, line: str) -> None:
    with pytest.raises(RecipeError, match=line):
        DIGITS.with_values({key: value})  # type: ignore[dict-item]


def test_views_are_not_searched_over() -> None:
    with pytest.raises(RecipeError, match=r"space\.test\.views: cannot be searched over"):
        parse({"space": {"test": {"views": {"choice": ["one", "flip"]}}}}, file="own")
