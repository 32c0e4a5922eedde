"""The secondary signs of `diagnose`: each on a run that shows it, and not on one that does not."""

import math
from dataclasses import replace

import pytest
from drawn_curves import CONVERGED, IMPROVING, LABELLED, OVERFITTING, decay, every, run

from cnntune.diagnosis.curve import Curve
from cnntune.diagnosis.rules import diagnose


def flags(curve: Curve) -> list[str]:
    return diagnose(curve).flags


def test_textbook_curves_have_no_signs() -> None:
    odd = {"transient-spike", "gap-from-start", "rate-step", "val-better-than-train", "noisy-val"}
    for curve in LABELLED.values():
        assert not odd & set(flags(curve))


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 100, 1000])
def test_a_loss_that_stays_at_ln_k_is_guessing(classes: int) -> None:
    level = [math.log(classes)] * 10
    found = diagnose(run(level, level))
    assert "at-chance" in found.flags
    assert "classes" not in found.evidence  # any loss is near ln K for some K


def test_a_stuck_loss_between_the_logarithms_is_not_called_guessing() -> None:
    found = diagnose(run([3.3] * 10, [3.3] * 10))  # ln 20 = 3.00, ln 100 = 4.61
    assert found.label == "underfitting"
    assert "at-chance" not in found.flags


def test_a_spike_that_recovers_is_a_sign() -> None:
    spiky = list(CONVERGED.train_loss)
    spiky[12] = 6.0
    found = diagnose(replace(CONVERGED, train_loss=spiky))
    assert (found.label, "transient-spike" in found.flags) == ("converged", True)


def logged(curve: Curve) -> list[tuple[int, float | None]]:
    return list(enumerate(curve.train_loss))


def test_a_bump_of_a_quarter_of_the_range_is_not_a_spike() -> None:
    bumped = [(loss or 0.0) + (0.5 if place == 12 else 0.0) for place, loss in logged(CONVERGED)]
    assert "transient-spike" not in flags(replace(CONVERGED, train_loss=bumped))


def test_a_first_epoch_far_above_the_second_is_not_a_spike() -> None:
    assert "transient-spike" not in flags(run([40.0, *decay(2.3, 0.2, 0.5, 20)]))


def test_a_gap_from_the_first_epoch_on_is_not_memorising() -> None:
    shifted = run(decay(2.0, 0.3, 0.5, 20), decay(3.0, 1.5, 0.5, 20))
    assert "gap-from-start" in flags(shifted)
    assert "gap-from-start" not in flags(run(decay(2.0, 0.05, 0.5, 20), decay(2.0, 0.9, 1.0, 20)))
    # train is lower by a tenth at first; or far lower at first, but val catches up
    assert "gap-from-start" not in flags(run(decay(2.0, 0.05, 0.5, 20), decay(2.2, 0.9, 1.0, 20)))
    assert "gap-from-start" not in flags(run(decay(2.0, 0.3, 0.5, 20), decay(3.0, 0.4, 0.5, 20)))


def test_a_learning_rate_that_drops_at_once_is_a_step() -> None:
    assert "rate-step" in flags(replace(CONVERGED, lr=[0.1] * 15 + [0.01] * 15))
    cosine = every(lambda epoch: 0.05 * (1 + math.cos(math.pi * epoch / 29)), 30)
    assert "rate-step" not in flags(replace(CONVERGED, lr=cosine))
    assert "rate-step" not in flags(replace(CONVERGED, lr=[0.1] * 30))


def test_train_accuracy_below_val_through_mixup() -> None:
    train, val = decay(2.3, 1.4, 0.4, 30), decay(2.0, 0.6, 0.5, 30)
    found = diagnose(run(train, val, [0.2, *[0.55] * 29], [0.3, *[0.8] * 29]))
    assert found.label == "converged"
    assert "val-better-than-train" in found.flags


def test_overfitting_of_the_loss_alone_is_distinguished() -> None:
    holds = replace(OVERFITTING, val_acc=decay(0.3, 0.65, 2.0, 12))
    assert "over-confident" in flags(holds)
    assert "over-confident" not in flags(OVERFITTING)


def test_what_was_not_logged_is_named() -> None:
    assert "no-validation" in flags(run(CONVERGED.train_loss))
    assert "no-train-curve" in flags(run((), CONVERGED.val_loss))
    one_nan = [*CONVERGED.val_loss[:20], float("nan"), *CONVERGED.val_loss[21:]]
    for val in (one_nan, [float("nan")] * 30):
        assert "val-not-finite" in flags(run(CONVERGED.train_loss, val))
    assert "val-not-finite" not in flags(CONVERGED)


def test_a_learning_rate_that_has_decayed_needs_a_longer_schedule() -> None:
    rates = every(lambda epoch: 0.05 * (1 - epoch / 10) ** 2, 10)
    found = diagnose(replace(IMPROVING, lr=rates))
    assert "schedule-ended" in found.flags
    assert found.advice[-1].startswith("stretch the schedule")
