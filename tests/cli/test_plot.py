"""Curves drawn as characters, on small curves that can be placed by hand, and as pictures."""

import math
from pathlib import Path

from PIL import Image

from cnntune.cli.plot import ASCII, LABEL_WIDTH, plot
from cnntune.diagnosis.curve import Curve
from cnntune.diagnosis.figures import save_curves

FRAME = LABEL_WIDTH + 2  # the label, a blank and the wall stand before the first column


def drawn(
    curve: Curve, *, best_epoch: float | None = None, width: int = 15, height: int = 5
) -> str:
    return "\n".join(plot(curve, best_epoch=best_epoch, width=width, height=height, marks=ASCII))


def test_a_straight_fall_is_a_diagonal_with_its_ends_labelled() -> None:
    curve = Curve(epochs=[1, 2, 3, 4, 5], val_loss=[4.0, 3.0, 2.0, 1.0, 0.0])
    assert drawn(curve, best_epoch=5) == (
        "       4 |o\n"
        "         | o\n"
        "       2 |  o\n"
        "         |   o\n"
        "       0 |    o\n"
        "         +----^\n"
        "          1   5\n"
        "          o val loss   ^ best epoch 5"
    )


def test_val_is_drawn_over_train_and_each_has_its_mark() -> None:
    curve = Curve(epochs=[1, 2], train_loss=[1.0, 0.0], val_loss=[1.0, 1.0])
    lines = drawn(curve, width=FRAME + 2, height=3).splitlines()
    assert lines[0].endswith("|oo")
    assert lines[2].endswith("| .")


def test_between_two_evaluations_the_line_goes_straight() -> None:
    curve = Curve(epochs=[0, 10], val_loss=[2.0, 0.0])
    lines = drawn(curve, width=FRAME + 3, height=3).splitlines()
    assert [line[FRAME:] for line in lines[:3]] == ["o", " o", "  o"]


def test_a_spike_does_not_flatten_the_rest() -> None:
    curve = Curve(epochs=[1, 2, 3], train_loss=[2.0, 1e9, 1.0])
    lines = drawn(curve, width=FRAME + 3, height=3).splitlines()
    assert lines[0].split("|")[0].strip() == "3"  # 1.5 times the first loss
    assert lines[0].endswith("| .")


def test_without_losses_accuracies_are_drawn() -> None:
    curve = Curve(epochs=[1, 2], val_acc=[0.5, 0.75])
    assert "o val acc" in drawn(curve)


def test_a_curve_without_a_number_draws_nothing() -> None:
    assert plot(Curve(epochs=[1], val_loss=[math.nan]), best_epoch=None, width=40, height=5) == []


def test_a_constant_and_a_single_point_are_drawn() -> None:
    for values in ([1.0, 1.0], [1.0]):
        assert "o" in drawn(Curve(epochs=[1, 2][: len(values)], val_loss=values), best_epoch=1)


def test_a_picture_is_a_png_of_the_stated_size(tmp_path: Path) -> None:
    curve = Curve(epochs=[1, 2, 3], train_loss=[2.0, 1.0, 0.5], val_acc=[0.1, math.nan, 0.3])
    save_curves(curve, tmp_path / "run.png", title="cost in $ and $", best_epoch=3)
    with Image.open(tmp_path / "run.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1050, 750))
