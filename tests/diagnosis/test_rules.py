"""The labels of `diagnose`, each on a small curve drawn by hand, and the traps of real logs."""

import math
from dataclasses import replace

import pytest
from drawn_curves import CONVERGED, LABELLED, NAN, OVERFITTING, decay, every, run
from hypothesis import given, settings
from hypothesis import strategies as st

from cnntune.diagnosis.curve import (
    Curve,
    fall_error,
    log_ratio,
    noise,
    rolling_median,
    scatter,
    slope,
    tail_median,
)
from cnntune.diagnosis.rules import diagnose
from cnntune.runs.chance import Chance


@pytest.mark.parametrize("label", LABELLED)
def test_each_label_has_its_textbook_curve(label: str) -> None:
    found = diagnose(LABELLED[label])
    assert found.label == label
    assert found.confidence >= 0.6
    assert found.advice
    assert found.epochs == len(LABELLED[label].epochs)


def test_the_evidence_names_the_numbers_that_decided() -> None:
    found = diagnose(OVERFITTING)
    # the median of the last three val losses is 1.55; a rolling median of three puts the minimum at
    # epoch 6, one after the raw minimum
    assert found.best_epoch == 5
    assert "val loss rose from 1.04 (epoch 6) to 1.55" in found.evidence
    assert "train loss fell from 0.35 to 0.04" in found.evidence


# Unstable


def test_a_loss_that_is_never_finite_has_diverged() -> None:
    found = diagnose(run([NAN] * 4, [NAN] * 4, [0.1] * 4, [0.1] * 4))
    assert found.label == "unstable"


def test_without_any_finite_loss_the_accuracy_decides() -> None:
    rising = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert diagnose(run([NAN] * 6, [NAN] * 6, rising, rising)).label == "still-improving"


def test_two_epochs_suffice_to_see_a_divergence() -> None:
    assert diagnose(run([2.3, NAN], [2.3, NAN])).label == "unstable"


def test_a_spike_that_recovers_is_not_unstable() -> None:
    spiky = list(CONVERGED.train_loss)
    spiky[8], spiky[15] = 9.0, NAN
    assert diagnose(replace(CONVERGED, train_loss=spiky)).label == "converged"


def test_a_train_loss_that_swings_is_unstable() -> None:
    swings = [2.3, 1.2, 2.1, 1.0, 2.2, 1.1, 2.0, 1.2, 2.1, 1.0, 2.2, 1.1]
    found = diagnose(run(swings, [value + 0.1 for value in swings]))
    assert found.label == "unstable"
    assert "up and down" in found.evidence


def test_a_noisy_train_loss_that_falls_is_not_unstable() -> None:
    train = [2.3, 2.0, 2.1, 1.7, 1.8, 1.4, 1.6, 1.1, 1.3, 0.8, 1.0, 0.5]
    assert diagnose(run(train, [2.3 - 0.15 * x for x in range(12)])).label == "still-improving"


def test_a_val_loss_that_explodes_while_train_learns_is_not_unstable() -> None:
    assert diagnose(run(decay(2.3, 0.02, 0.4, 12), decay(1.5, 9.0, 0.4, 12))).label == "overfitting"


def test_a_val_loss_alone_that_ends_above_its_start_is_unstable() -> None:
    assert diagnose(run(val_loss=[0.7, 0.6, 0.6, 0.9, 1.6, 2.5, 3.0])).label == "unstable"


def test_a_val_loss_that_is_never_finite_is_ignored() -> None:
    found = diagnose(run(CONVERGED.train_loss, [NAN] * 30))
    assert found.label == "converged"
    assert {"no-validation", "val-not-finite"} <= set(found.flags)


def test_oscillation_by_a_cyclic_lr_that_ends_at_its_best_converged() -> None:
    def cycle(epoch: int) -> float:
        return 0.5 + 1.8 * math.exp(-0.15 * epoch) * (1.2 + math.cos(1.3 * epoch)) / 2.2

    val = [*every(cycle, 60), *[0.5] * 20]
    train = [*every(lambda epoch: 0.95 * cycle(epoch), 60), *[0.475] * 20]
    assert diagnose(run(train, val)).label == "converged"


# Underfitting


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_a_loss_at_chance_level_is_underfitting(classes: int) -> None:
    chance = math.log(classes)
    wiggle = [0.004, -0.003, 0.002, -0.004, 0.003, -0.002, 0.001, -0.001]
    losses = [chance * (1 + part) for part in wiggle]
    assert diagnose(run([chance, *losses], [chance, *losses])).label == "underfitting"


TEN_CLASSES = Chance(0.1, math.log(10), 1000)
GUESSES = [0.1, 0.11, 0.09, 0.1, 0.1, 0.1]


def test_a_run_that_fell_to_the_loss_of_guessing_has_not_converged() -> None:
    fallen = run([3.4, 2.5, 2.305, 2.303, 2.303, 2.303], [3.4, 2.5, *[2.303] * 4], val_acc=GUESSES)
    for chance in (TEN_CLASSES, None):  # inferred from the log of another tool
        found = diagnose(fallen, chance=chance)
        assert (found.label, found.also) == ("underfitting", [])
        assert "guessing gives 2.303 and 0.1" in found.evidence
    learned = replace(fallen, val_acc=[0.1, 0.3, *[0.5] * 4])
    assert diagnose(learned, chance=TEN_CLASSES).label == "converged"


def test_a_loss_that_falls_from_millions_to_a_hundred_exploded() -> None:
    # an accuracy of 0.1 means ten classes, for which guessing gives ln 10 = 2.303, not 7e6 or 119
    losses = [7e6, 3e6, 9e5, 1e5, 4e3, 119]
    exploded = run(losses, losses, val_acc=[0.1] * 6)
    for chance in (TEN_CLASSES, None):
        found = diagnose(exploded, chance=chance)
        assert (found.label, found.severity) == ("unstable", "fail")
        assert "of guessing" in found.evidence
    assert diagnose(run(losses, losses)).label == "still-improving"  # may be a squared error
    halves = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]  # the loss is summed over the images: it learned
    assert diagnose(run(losses, losses, val_acc=halves)).label == "still-improving"


def test_a_run_that_exploded_and_fell_back_to_guessing_is_unstable() -> None:
    losses = [400.0, 2.31, 2.303, 2.303, 2.303, 2.303]
    found = diagnose(run(losses, losses, val_acc=GUESSES), chance=TEN_CLASSES)
    assert found.label == "unstable"


def test_always_answering_the_largest_class_is_not_converged() -> None:
    losses = [0.6, 0.35, 0.34, 0.34, 0.34, 0.34]  # 0.325 is the entropy of 90 % and 10 %
    run_of_two = run(losses, losses, val_acc=[0.9] * 6)
    assert diagnose(run_of_two, chance=Chance(0.9, 0.3251, 500)).label == "underfitting"
    assert diagnose(run_of_two).label == "converged"


def test_memorised_images_are_overfitting_even_if_validation_is_at_chance() -> None:
    train, val = decay(2.3, 0.05, 0.4, 12), decay(2.3, 5.0, 0.3, 12)
    found = diagnose(run(train, val, val_acc=[0.1] * 12), chance=TEN_CLASSES)
    assert found.label == "overfitting"


def test_a_last_percent_at_chance_level_is_not_improving() -> None:
    train = [2.33, 2.325, 2.32, 2.318, 2.316, 2.314, 2.312, 2.31]
    assert diagnose(run(train, train)).label == "underfitting"


def test_a_slow_but_steady_fall_is_not_underfitting() -> None:
    train = [2.3, 2.28, 2.26, 2.24, 2.22, 2.2, 2.18, 2.16, 2.14, 2.12]
    assert diagnose(run(train, train)).label == "still-improving"


def test_a_fifth_of_the_loss_is_learned() -> None:
    train = [1.42, 1.25, 1.18, 1.15, 1.14, 1.15, 1.14, 1.15, 1.14, 1.15]
    assert diagnose(run(train, val_acc=[0.5, 0.55, *[0.58] * 8])).label == "converged"


def test_a_fine_tuned_network_that_starts_good_is_not_underfitting() -> None:
    flat_train, flat_val = (
        [0.29, 0.28, 0.28, 0.27, 0.28, 0.27],
        [0.15, 0.15, 0.15, 0.14, 0.15, 0.15],
    )
    accuracy = [0.88, 0.88, 0.88, 0.88, 0.88, 0.88]
    assert diagnose(run(flat_train, flat_val, val_acc=accuracy)).label == "converged"
    low = [0.38, 0.38, 0.38, 0.38, 0.38, 0.38]
    assert diagnose(run(flat_train, flat_val, val_acc=low)).label == "underfitting"


def test_only_a_reference_distinguishes_underfitting_from_a_plateau() -> None:
    weak = run(decay(2.3, 1.5, 0.8, 20), decay(2.3, 1.52, 0.8, 20))
    assert diagnose(weak).label == "converged"
    found = diagnose(weak, reference=CONVERGED)
    assert found.label == "underfitting"
    assert "1.52" in found.evidence
    assert "0.3" in found.evidence
    assert diagnose(CONVERGED, reference=weak).label == "converged"
    assert diagnose(CONVERGED, reference=CONVERGED).label == "converged"


# Still improving


def test_three_lucky_epochs_are_not_a_trend() -> None:
    val = [0.8, 0.6, 0.5, 0.44, 0.4, 0.38, 0.41, 0.4, 0.39]
    assert diagnose(run([value - 0.02 for value in val], val)).label == "converged"


def test_the_slow_gain_of_a_nearly_perfect_network_is_not_improving() -> None:
    # val gained 0.005 over the last third: 8 % of its range, and 1 % of the first train loss
    train = [0.43, 0.1, 0.07, 0.055, 0.05, 0.044, 0.033, 0.032, 0.03, 0.029, 0.028, 0.027]
    val = [0.096, 0.071, 0.053, 0.042, 0.039, 0.0375, 0.036, 0.035, 0.0335, 0.032, 0.031, 0.03]
    assert diagnose(run(train, val)).label == "converged"
    steeper = [value - 0.005 * max(0, epoch - 7) for epoch, value in enumerate(val)]
    assert diagnose(run(train, steeper)).label == "still-improving"


def test_a_plateau_before_layers_are_unfrozen_is_not_the_end() -> None:
    frozen, thawed = decay(2.3, 1.4, 0.8, 15), decay(1.35, 0.4, 0.8, 15)
    train = [*frozen, *thawed]
    assert diagnose(run(train, [value + 0.05 for value in train])).label == "converged"
    early = [*frozen, *decay(1.35, 0.4, 0.1, 10)]
    found = diagnose(run(early, [value + 0.05 for value in early]))
    assert found.label == "still-improving"


# Overfitting


def test_losses_near_zero_may_double_without_overfitting() -> None:
    train = [0.9, 0.2, 0.05, 0.02, 0.01, 0.006, 0.004, 0.003, 0.002, 0.002]
    val = [0.2, 0.02, 0.004, 0.001, 0.0005, 0.0008, 0.001, 0.002, 0.003, 0.004]
    assert diagnose(run(train, val)).label == "converged"


def test_val_below_train_is_augmentation_and_not_overfitting() -> None:
    train = [2.2, 1.6, 1.3, 1.2, 1.1, 1.05, 1.0, 0.97, 0.93, 0.9, 0.88, 0.86]
    val = [1.5, 0.9, 0.6, 0.5, 0.48, 0.5, 0.52, 0.53, 0.54, 0.55, 0.55, 0.56]
    found = diagnose(run(train, val))
    assert found.label == "converged"
    assert "val-better-than-train" in found.flags


def test_losses_on_two_scales_are_not_a_gap() -> None:
    # as in distillation, where the train loss has a second term: the two cannot be compared
    train, val = decay(13.0, 8.0, 0.3, 20), decay(1.6, 1.0, 0.5, 20)
    assert diagnose(run(train, val)).label == "converged"


def test_val_that_rises_with_train_is_not_overfitting() -> None:
    train = [1.0, 0.5, 0.4, 0.35, 0.34, 0.34, 0.34, 0.34, 0.34, 0.34, 0.34, 0.34]
    val = [1.1, 0.6, 0.5, 0.45, 0.44, 0.45, 0.46, 0.47, 0.48, 0.49, 0.5, 0.5]
    assert diagnose(run(train, val)).label == "converged"


def test_one_bad_last_row_is_not_overfitting() -> None:
    train = decay(2.3, 0.2, 0.5, 20)
    val = [*decay(2.3, 0.3, 0.5, 19), 0.9]
    assert diagnose(run(train, val)).label == "converged"


def test_an_evaluation_after_the_end_of_training_is_ignored() -> None:
    train = [1.0, 0.8, 0.62, 0.5]
    val = [1.0, 0.82, 0.66, 0.55, 0.3]
    assert diagnose(run(train, val)).evidence.startswith("val loss fell to 0.55")


def test_val_loss_that_rises_while_val_accuracy_holds_is_mild() -> None:
    found = diagnose(replace(OVERFITTING, val_acc=decay(0.3, 0.65, 2.0, 12)))
    assert (found.label, found.severity, found.also) == ("overfitting", "info", ["converged"])
    assert "over-confident" in found.flags
    assert any("labels" in line for line in found.advice)


def test_a_large_accuracy_gap_is_overfitting_even_if_val_loss_never_rises() -> None:
    train_acc, val_acc = [0.3, 0.7, *[0.99] * 10], [0.3, 0.5, *[0.55] * 10]
    train, val = [3.0, 2.0, *[1.6] * 10], [3.0, 2.4, *[2.1] * 10]  # an L2 term keeps losses up
    found = diagnose(run(train, val, train_acc, val_acc))
    assert found.label == "overfitting"
    assert "44 points" in found.evidence


def test_a_val_loss_with_a_high_minimum_is_not_a_gap_when_accuracy_is_high() -> None:
    # cross-entropy of soft-maxed outputs: ln(1 + (K-1)/e) = 0.905 for K = 5 at 100 % accuracy
    train, accuracy = decay(1.6, 0.02, 0.5, 20), every(lambda e: 0.97 - 0.7 * math.exp(-e), 20)
    val = [0.905 + 1 - value for value in accuracy]
    assert diagnose(run(train, val, val_acc=accuracy)).label == "converged"
    assert diagnose(run(train, val)).label == "overfitting"  # unknown without accuracy


def test_a_wide_loss_gap_with_a_flat_val_loss_is_overfitting() -> None:
    assert diagnose(run(decay(2.0, 0.05, 0.5, 20), decay(2.0, 0.9, 1.0, 20))).label == "overfitting"


def test_the_noise_of_a_small_validation_set_is_not_overfitting() -> None:
    train = decay(0.7, 0.1, 0.3, 16)
    val = [0.7, 0.5, 0.42, 0.3, 0.22, 0.36, 0.2, 0.38, 0.24, 0.34, 0.2, 0.36, 0.22, 0.35, 0.21, 0.3]
    found = diagnose(run(train, val))
    assert found.label == "converged"
    assert "noisy-val" in found.flags


def test_a_bump_that_a_lower_learning_rate_removed_is_not_overfitting() -> None:
    train = [*decay(2.0, 0.5, 0.3, 20), *decay(0.4, 0.2, 1.0, 20)]
    hump = [0.9 + 0.02 * (epoch - 10) for epoch in range(10, 20)]
    val = [*decay(2.0, 0.85, 0.5, 10), *hump, *decay(0.7, 0.5, 1.0, 20)]
    assert diagnose(run(train, val)).label == "converged"


def test_val_that_only_got_worse_gives_the_advice_to_check_the_split() -> None:
    found = diagnose(run(decay(1.1, 0.05, 0.3, 20), decay(1.5, 6.0, 0.3, 20)))
    assert found.label == "overfitting"
    assert found.best_epoch == 1
    assert "best-at-start" in found.flags
    assert found.advice[0].startswith("check that training and validation")


def test_without_a_train_curve_nothing_is_called_overfitting() -> None:
    found = diagnose(run(val_loss=[1.0, 0.6, 0.5, 0.52, 0.56, 0.62, 0.7, 0.78, 0.85]))
    assert (found.label, found.severity) == ("converged", "warn")
    assert "overfitting" in found.also
    assert "no-train-curve" in found.flags


def test_curves_of_two_units_have_no_gap() -> None:
    both = run(decay(2.0, 0.1, 1.0, 12), decay(4.0, 2.0, 1.0, 12))
    assert diagnose(both).label == "overfitting"
    assert diagnose(replace(both, one_unit=False)).label == "converged"


# Accuracy only, train only, few points


def test_error_rates_replace_missing_losses() -> None:
    rising = [0.3, 0.38, 0.46, 0.54, 0.61, 0.68, 0.74, 0.8]
    flat = [0.3, 0.8, *[0.95] * 10]
    fallen = [0.3, 0.6, 0.7, 0.72, 0.7, 0.68, 0.66, 0.65, 0.64, 0.63, 0.62, 0.61]
    assert diagnose(run(val_acc=rising)).label == "still-improving"
    assert diagnose(run(val_acc=flat)).label == "converged"
    found = diagnose(run(decay(2.0, 0.05, 0.5, 12), val_acc=fallen))
    assert (found.label, found.best_epoch) == ("overfitting", 4)
    assert found.evidence.startswith("val error rose")


def test_a_train_curve_alone_is_diagnosed_with_a_sign() -> None:
    found = diagnose(run([2.3, 2.0, 1.7, 1.45, 1.2, 1.0]))
    assert found.label == "still-improving"
    assert "no-validation" in found.flags


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_fewer_than_three_points_are_too_short(epochs: int) -> None:
    found = diagnose(run([2.3, 1.9][:epochs], [2.3, 2.0][:epochs]))
    assert found.label == "too-short"
    assert found.best_epoch is None
    assert f"{epochs} usable point{'' if epochs == 1 else 's'};" in found.evidence


def test_a_curve_of_none_is_too_short() -> None:
    nothing = [None] * 8
    assert diagnose(run(nothing, nothing, nothing, nothing)).label == "too-short"


@pytest.mark.parametrize("epochs", [3, 4])
def test_few_epochs_give_low_confidence(epochs: int) -> None:
    found = diagnose(run([2.2, 1.7, 1.3, 1.0][:epochs], [2.1, 1.7, 1.4, 1.15][:epochs]))
    assert found.label == "still-improving"
    assert found.confidence <= 0.5
    assert "few-points" in found.flags


def test_a_missing_value_drops_the_cell_and_not_the_row() -> None:
    sparse = [value if epoch % 5 == 4 else None for epoch, value in enumerate(OVERFITTING.val_acc)]
    holes = list(OVERFITTING.val_loss)
    holes[1] = holes[7] = None
    assert diagnose(replace(OVERFITTING, val_loss=holes, val_acc=sparse)).label == "overfitting"


# Arithmetic


def test_robust_numbers_by_hand() -> None:
    assert tail_median([9, 1, 5, 2, 4], 0.6) == 4
    assert rolling_median([5, 1, 3, 9, 2], 3) == [5, 3, 3, 3, 3]
    assert noise([0, 1, 1, 3, 0]) == 2  # steps 1, 2, 3; the step of zero is ignored
    assert noise([4, 4, 4]) == 0
    assert slope([0, 1, 2, 90]) == pytest.approx((1 + 30) / 2)  # 1, 1, 1, 30, 44.5, 88
    assert slope([7]) == 0


Row = tuple[float | None, ...]
numbers = st.one_of(st.none(), st.floats(), st.floats(0, 3), st.sampled_from([0.0, NAN, math.inf]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(*[numbers] * 5), max_size=14),
    st.lists(st.tuples(*[numbers] * 5), max_size=14),
    st.integers(1, 40),
)
def test_no_curve_raises(rows: list[Row], other: list[Row], planned: int) -> None:
    def of(table: list[Row]) -> Curve:
        return Curve([float(x) for x in range(len(table))], *map(list, zip(*table, strict=True)))

    reference = of(other) if other else None
    found = diagnose(of(rows) if rows else run(), reference=reference, planned_epochs=planned)
    assert found.label in {*LABELLED, "too-short"}
    assert 0 <= found.confidence <= 1
    assert found.evidence
    assert found.advice


def test_a_rise_is_measured_against_its_best_also_where_the_loss_began_high() -> None:
    train = [2.3, 0.9, 0.5, 0.3, 0.2, 0.12, 0.08, 0.05, 0.03, 0.02]
    val = [1.0, 0.4, 0.2, 0.12, 0.10, 0.105, 0.11, 0.115, 0.12, 0.125]
    # Up by 25 % of 0.10, and by 1 % of the 2.3 that train began at.
    assert diagnose(run(train, val)).label == "overfitting"


def test_a_gap_of_accuracies_is_overfitting_also_while_val_still_improves() -> None:
    train = [2.0, 1.0, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08, 0.05]
    val = [2.0, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0]
    found = diagnose(
        run(
            train, val, train_acc=[0.4 + 0.06 * k for k in range(10)], val_acc=[0.4] * 5 + [0.6] * 5
        )
    )
    assert found.label == "overfitting"
    assert found.also == ["still-improving"]


def test_three_epochs_that_all_improve_are_not_overfitting_yet() -> None:
    found = diagnose(
        run([1.70, 0.74, 0.41], [1.61, 0.91, 0.64], [0.33, 0.82, 0.98], [0.43, 0.71, 0.85])
    )
    assert found.label == "still-improving"
    assert set(found.also) == {"overfitting", "too-short"}
    assert found.advice == ["train twice as long, with the schedule stretched"]


def test_val_that_gains_more_per_epoch_than_it_is_behind_still_improves() -> None:
    train, val = [2.2, 1.7, 1.2, 0.8, 0.5], [2.25, 2.0, 1.6, 1.2, 0.8]
    late = run(train, val, [0.2, 0.4, 0.6, 0.8, 0.95], [0.1, 0.3, 0.45, 0.6, 0.8])
    # the median slope is 0.17 per epoch, and the gap at the end 0.15
    assert diagnose(late).label == "still-improving"
    slow = run(train, val, [0.2, 0.4, 0.6, 0.8, 0.95], [0.1, 0.2, 0.3, 0.4, 0.5])
    assert diagnose(slow).label == "overfitting"


def test_a_network_that_falls_back_to_guessing_is_unstable() -> None:
    found = diagnose(
        run([2.24, 3.25, 2.33, 2.34], [1.61, 2.31, 2.32, 2.35], val_acc=[0.547, 0.1, 0.103, 0.09])
    )
    assert found.label == "unstable"
    assert "val accuracy was 0.547 in epoch 1 and ended at 0.09" in found.evidence
    assert "lower the learning rate tenfold" in found.advice


def test_a_loss_that_rose_above_guessing_did_not_stay_there() -> None:
    found = diagnose(run([2.24, 2.4, 2.34, 2.39, 2.33, 2.34]))
    assert "it rose and stays above 2.303" in found.evidence  # ln 10


def test_a_val_loss_that_is_not_finite_points_to_the_evaluation() -> None:
    train = [2.0, 1.0, 0.6, 0.4, 0.3, 0.25, 0.22, 0.21, 0.2, 0.2]
    found = diagnose(run(train, [math.nan] * 10))
    assert found.label != "unstable"
    assert found.advice[0] == "check the validation set and its evaluation: val loss is not finite"


def test_a_rate_that_the_log_shows_decayed_is_not_to_be_decayed() -> None:
    train = [2.0, 1.0, 0.6, 0.5, 0.45, 0.44, 0.43, 0.43, 0.43, 0.43]
    lr = [0.1] * 4 + [0.01] * 3 + [0.001] * 3
    flat = diagnose(run(train, train))
    assert any("decay the learning rate" in line for line in flat.advice)
    assert not any("decay" in line for line in diagnose(run(train, train, lr=lr)).advice)


def test_a_flat_loss_beside_a_high_train_accuracy_is_not_stuck() -> None:
    # With label smoothing the loss cannot get far below its start once the network is right.
    train = [0.99, 0.97, 0.96, 0.955, 0.952, 0.951, 0.95, 0.95, 0.95, 0.95]
    assert diagnose(run(train, train_acc=[0.985] * 10)).label == "converged"
    assert diagnose(run(train, train_acc=[0.3] * 10)).label == "underfitting"


def test_a_loss_that_only_rose_is_not_said_to_have_fallen() -> None:
    found = diagnose(run([1.7, 2.5, 4.0, 6.0, 8.0], [1.8, 2.6, 4.1, 6.1, 8.1]))
    assert found.evidence.startswith("train loss started at 1.7 and ended at ")


def test_the_evidence_of_an_improvement_says_over_how_many_points() -> None:
    long = [2.0 - 0.05 * epoch for epoch in range(30)]
    assert "over the last 10 points" in diagnose(run(long, long)).evidence
    # A third of four points is one; a slope of fewer than five points tells little.
    assert "over the last 4 points" in diagnose(run(long[:4], long[:4])).evidence


# A network that does not fit its training set


def learned_until(level: float, epochs: int = 20, classes: int = 10) -> Curve:
    """Accuracies that stop at `level`, and losses from log C by the share that is learned."""
    accs = decay(1 / classes, level, 0.5, epochs)
    first = math.log(classes)
    losses = [first * (1 - 0.8 * (acc - 1 / classes)) for acc in accs]
    return run(losses, losses, accs, [acc - 0.01 for acc in accs])


@pytest.mark.parametrize("level", [0.32, 0.48])
def test_a_train_accuracy_that_stops_low_is_underfitting_without_any_gap(level: float) -> None:
    found = diagnose(learned_until(level))
    assert found.label == "underfitting"
    assert f"train accuracy levelled off at {level}" in found.evidence
    assert any("larger network" in line for line in found.advice)


def test_two_classes_of_which_three_fifths_are_right_are_underfitting() -> None:
    accs = [0.52, 0.57, 0.59, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    losses = [0.79, 0.7, 0.68, 0.67, 0.67, 0.67, 0.67, 0.67, 0.67, 0.67]
    assert diagnose(run(losses, losses, accs, accs)).label == "underfitting"


def test_where_both_labels_are_near_both_are_named_with_low_confidence() -> None:
    middle = diagnose(learned_until(0.72))  # 0.28 of the answers times 0.504 of the loss: 0.14
    assert (middle.label, middle.also) == ("converged", ["underfitting"])
    good = diagnose(learned_until(0.95))
    assert (good.label, good.also) == ("converged", [])
    assert middle.confidence < good.confidence - 0.1


def test_a_low_accuracy_of_a_hard_task_is_not_called_underfitting_alone() -> None:
    # of 1000 classes 38 % are right, and the loss fell from 6.9 to 2.9: 0.62 x 0.42 is unlearned
    accs, losses = decay(0.01, 0.38, 0.4, 30), decay(6.9, 2.9, 0.4, 30)
    found = diagnose(run(losses, losses, accs, accs))
    assert (found.label, found.also) == ("converged", ["underfitting"])
    assert found.confidence <= 0.6


def test_a_train_accuracy_on_mixed_images_says_nothing_about_the_fit() -> None:
    train, val = decay(0.2, 0.55, 0.5, 20), decay(0.4, 0.93, 0.5, 20)
    found = diagnose(run(decay(2.3, 1.4, 0.5, 20), decay(1.5, 0.25, 0.5, 20), train, val))
    assert (found.label, found.also) == ("converged", [])


def test_a_train_accuracy_that_still_rises_is_not_underfitting() -> None:
    rising = [0.2 + 0.01 * epoch for epoch in range(20)]
    flat = decay(0.1, 0.3, 0.9, 20)
    losses = decay(2.3, 1.9, 0.9, 20)
    assert diagnose(run(losses, losses, rising, flat)).label != "underfitting"


def test_a_val_score_alone_has_to_be_much_lower_since_it_may_be_no_accuracy() -> None:
    losses = decay(2.0, 1.2, 0.5, 20)
    assert diagnose(run(losses, val_acc=decay(0.1, 0.5, 0.5, 20))).label == "converged"
    assert diagnose(run(losses, val_acc=decay(0.1, 0.15, 0.5, 20))).label == "underfitting"


def test_without_accuracy_a_loss_that_hardly_fell_may_be_underfitting() -> None:
    flat = decay(2.0, 1.6, 0.8, 20)
    found = diagnose(run(flat, flat))
    assert (found.label, "underfitting" in found.also) == ("converged", True)
    assert "underfitting cannot be ruled out" in found.evidence


# Repeated spikes


def spiked(places: list[int], epochs: int = 30) -> Curve:
    losses = [
        value + (3.0 if place in places else 0)
        for place, value in enumerate(decay(2.3, 0.3, 0.5, epochs))
    ]
    return run(losses, [value + 0.05 for value in losses])


def test_repeated_spikes_are_unstable_and_one_is_not() -> None:
    found = diagnose(spiked([6, 12, 19, 25]))
    assert (found.label, found.severity) == ("unstable", "warn")
    assert "4 times (epochs 7, 13, 20, ...)" in found.evidence
    assert diagnose(spiked([12])).label == "converged"


def test_three_spikes_in_hundreds_of_epochs_are_not_unstable() -> None:
    found = diagnose(spiked([60, 150, 250], epochs=300))
    assert found.label == "converged"
    assert "transient-spike" in found.flags


def test_a_val_accuracy_that_swings_by_tens_of_points_is_unstable() -> None:
    swings = [0.5, 0.8, 0.35, 0.7, 0.4, 0.85, 0.3, 0.75, 0.5, 0.8]
    found = diagnose(run(decay(2.0, 0.3, 0.5, 10), val_acc=swings))
    assert found.label == "unstable"
    assert "between 0.3 and 0.85" in found.evidence


# Trends


def test_a_fall_within_the_scatter_of_a_long_curve_is_not_improving() -> None:
    # 20 points of scatter +-0.1 about a line that falls by 0.06 over them
    tail = [0.6 - 0.003 * x + (0.1 if x % 2 else -0.1) for x in range(20)]
    val = [*decay(1.6, 0.6, 0.5, 40), *tail]
    train = decay(1.6, 0.55, 0.5, 60)
    assert diagnose(run(train, val)).label == "converged"


def test_the_error_of_a_fall_by_hand() -> None:
    # slope -1; the steps -2, 0, -2, 0 are each 1 away from it: 1 / 0.954 x (12 / 5)^0.5
    assert fall_error([4, 2, 2, 0, 0]) == pytest.approx(1.6239, abs=1e-4)
    assert fall_error([5, 4, 3, 2]) == 0
    assert fall_error([3, 3, 3]) == 0


# Few points


def test_three_points_that_contradict_each_other_are_too_short() -> None:
    train = [0.54, 0.5, 0.46]
    found = diagnose(run(train, [0.50, 0.42, 0.48]))
    assert (found.label, "still-improving" in found.also) == ("too-short", True)
    assert "0.5, 0.42, 0.48" in found.evidence
    assert diagnose(run(train, [0.50, 0.46, 0.42])).label == "still-improving"
    assert diagnose(run(train, [0.42, 0.42, 0.42])).label != "too-short"


def test_two_points_name_the_label_that_they_point_to() -> None:
    assert diagnose(run([2.0, 1.5], [2.0, 1.6])).also == ["still-improving"]
    assert diagnose(run([2.0, 0.5], [1.0, 1.6])).also == ["overfitting"]
    assert "val loss went from 1 to 1.6" in diagnose(run([2.0, 0.5], [1.0, 1.6])).evidence


def test_a_train_curve_alone_gives_no_high_confidence() -> None:
    found = diagnose(run(CONVERGED.train_loss))
    assert (found.label, found.confidence) == ("converged", 0.6)
    assert "without a validation curve" in found.evidence


# Shares of what was learned


def test_a_gap_counts_by_what_val_did_not_follow_however_high_train_began() -> None:
    # val fell from 4.2 to 1.6, train from 12 to 0.15: of 4.05 that could be learned 1.45 is missing
    train, val = decay(12.0, 0.15, 0.8, 12), decay(4.2, 1.6, 1.2, 12)
    found = diagnose(run(train, val))
    assert found.label == "overfitting"
    assert "val did not follow 36% of what training learned" in found.evidence


def test_losses_that_began_more_than_tenfold_apart_are_not_compared() -> None:
    # train per word, val summed over a sentence
    train, val = decay(5.7, 2.6, 0.8, 20), decay(120.0, 65.0, 0.8, 20)
    assert diagnose(run(train, val)).label == "converged"


def test_a_gap_of_losses_while_val_still_falls_is_named_beside_the_improvement() -> None:
    train = [0.48, 0.44, 0.41, 0.38, 0.36, 0.34, 0.325, 0.31, 0.3]
    val = [0.5, 0.48, 0.465, 0.45, 0.44, 0.432, 0.424, 0.416, 0.409]
    found = diagnose(run(train, val))
    assert (found.label, "overfitting" in found.also) == ("still-improving", True)
    assert "although train loss is at 0.3" in found.evidence


def test_a_rise_of_a_loss_near_zero_changes_no_prediction() -> None:
    train = decay(2.3, 0.0002, 0.7, 20)
    val = [*decay(2.0, 0.002, 0.9, 10), *[0.002 + 0.001 * epoch for epoch in range(10)]]
    assert diagnose(run(train, val)).label == "converged"


def test_scatter_and_log_ratio_by_hand() -> None:
    assert scatter([1, 3, 1, 3]) == 2  # each inner value is 2 away from the mean of its neighbours
    assert scatter([8, 6, 4, 2]) == 0
    assert scatter([1, 2]) == 0
    assert log_ratio(math.e, 1.0) == pytest.approx(1.0)
    assert log_ratio(1.0, 2.0) == 0.0
    assert log_ratio(2.0, -1.0) == 0.0


def flat(level: float, count: int = 30) -> list[float]:
    """A loss that falls to a level within a quarter of the run and stays there, with some noise."""
    jumps = (0.004, -0.004, 0.006, -0.002, 0.0)
    return [max(level, 2.0 - 0.3 * e) + level * jumps[e % 5] for e in range(count)]


def test_a_plateau_whose_accuracy_still_rises_is_also_still_improving() -> None:
    plateau = Curve(range(30), train_loss=flat(0.4), val_loss=flat(0.5), val_acc=[0.7] * 30)
    rising = replace(plateau, val_acc=[0.7 + 0.004 * e for e in range(30)])  # by 4 points at last
    sure, unsure = diagnose(plateau), diagnose(rising)
    assert (sure.label, unsure.label) == ("converged", "converged")
    assert "still-improving" not in sure.also
    assert "still-improving" in unsure.also
    assert sure.confidence > unsure.confidence


def test_a_gap_of_losses_that_accuracies_do_not_show_is_also_overfitting() -> None:
    accs = [0.9] * 30
    apart = Curve(range(30), train_loss=flat(0.1), val_loss=flat(0.8), train_acc=accs, val_acc=accs)
    near = replace(apart, train_loss=flat(0.7))
    assert (diagnose(apart).label, diagnose(apart).also) == ("converged", ["overfitting"])
    assert diagnose(near).also == []
    assert diagnose(near).confidence > diagnose(apart).confidence
