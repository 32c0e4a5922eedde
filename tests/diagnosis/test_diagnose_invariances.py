"""What must not change a label: the unit of the loss, repeated rows, how epochs are counted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from drawn_curves import CONVERGED, IMPROVING, LABELLED, NAN, run
from hypothesis import given, settings
from hypothesis import strategies as st

from cnntune.diagnosis.curve import Curve, Values
from cnntune.diagnosis.rules import diagnose

COLUMNS = ("train_loss", "val_loss", "train_acc", "val_acc", "lr")
LOSSES = COLUMNS[:2]


def each(curve: Curve, change: Callable[[Values], Values], names: tuple[str, ...]) -> Curve:
    changed: dict[str, Any] = {name: change(getattr(curve, name)) for name in names}
    return replace(curve, **changed)


def times(factor: float) -> Callable[[Curve], Curve]:
    def scaled(values: Values) -> Values:
        return [None if value is None else factor * value for value in values]

    return lambda curve: each(curve, scaled, LOSSES)


def doubled(curve: Curve) -> Curve:
    epochs = [1.0 + place for place in range(2 * len(curve.epochs))]
    twice = each(curve, lambda values: [value for value in values for _ in range(2)], COLUMNS)
    return replace(twice, epochs=epochs)


def ended_in(value: float, rows: int = 1) -> Callable[[Curve], Curve]:
    def ended(curve: Curve) -> Curve:
        longer = each(curve, lambda column: [*column, *[value] * rows] if column else [], COLUMNS)
        last = curve.epochs[-1]
        return replace(longer, epochs=[*curve.epochs, *[last + 1 + row for row in range(rows)]])

    return ended


def without_accuracy(curve: Curve) -> Curve:
    return replace(curve, train_acc=[], val_acc=[])


def in_steps(curve: Curve) -> Curve:
    return replace(curve, epochs=[391 * epoch for epoch in curve.epochs])


def in_fractions(curve: Curve) -> Curve:
    return replace(curve, epochs=[epoch / 64 for epoch in curve.epochs])


@pytest.mark.parametrize(
    "change",
    [times(10), doubled, ended_in(NAN), without_accuracy, in_steps, in_fractions],
    ids=["times ten", "doubled", "a NaN row", "no accuracy", "steps", "fractions"],
)
@pytest.mark.parametrize("label", LABELLED)
def test_the_label_survives(label: str, change: Callable[[Curve], Curve]) -> None:
    assert diagnose(change(LABELLED[label])).label == label


values = st.one_of(st.none(), st.floats(0.001, 4), st.sampled_from([0.5, 1.0, 2.0, NAN]))
sound = st.floats(0.001, 4)
rate = st.floats(0, 1)


def curves(value: st.SearchStrategy[float | None]) -> st.SearchStrategy[Curve]:
    """Runs of 4 to 30 epochs whose losses are any such values."""
    rows = st.lists(st.tuples(value, value, rate, rate, rate), min_size=4, max_size=30)
    return rows.map(lambda rows: run(*map(list, zip(*rows, strict=True))))


# powers of two, so that rounding moves no value across a threshold
@settings(max_examples=200, deadline=None)
@given(curves(values), st.sampled_from([times(8), times(0.25), doubled, in_steps, in_fractions]))
def test_any_label_survives(curve: Curve, change: Callable[[Curve], Curve]) -> None:
    assert diagnose(change(curve)).label == diagnose(curve).label


@settings(max_examples=100, deadline=None)
@given(curves(sound), st.sampled_from([NAN, float("inf")]))
def test_one_row_without_a_number_at_the_end_changes_no_label(curve: Curve, value: float) -> None:
    assert diagnose(ended_in(value)(curve)).label == diagnose(curve).label


def test_a_lost_last_row_is_a_sign() -> None:
    found = diagnose(ended_in(NAN)(CONVERGED))
    assert "last-row-lost" in found.flags
    assert "unstable" in found.also
    assert "last-row-lost" not in diagnose(CONVERGED).flags


@pytest.mark.parametrize("label", LABELLED)
def test_two_rows_of_nan_at_the_end_make_any_run_unstable(label: str) -> None:
    found = diagnose(ended_in(NAN, rows=2)(LABELLED[label]))
    assert (found.label, found.severity) == ("unstable", "fail")
    assert f"after epoch {len(LABELLED[label].epochs)}" in found.evidence


def test_one_nan_with_the_accuracy_of_guessing_is_a_divergence() -> None:
    # as by Keras' TerminateOnNaN: the last row has no loss, and the accuracy of guessing
    losses = [*IMPROVING.train_loss, NAN]
    guessing = [*IMPROVING.val_acc, 0.1]
    ended = run(losses, [*IMPROVING.val_loss, NAN], val_acc=guessing)
    assert diagnose(ended).label == "unstable"


def test_training_that_became_nan_after_the_last_validation_is_a_divergence() -> None:
    ended = run([*IMPROVING.train_loss, NAN], [*IMPROVING.val_loss, None])
    assert diagnose(ended).label == "unstable"


def test_a_nan_after_too_few_points_is_a_divergence() -> None:
    assert diagnose(run([2.3, 1.9, NAN], [2.3, 2.0, NAN])).label == "unstable"


def test_a_nan_row_of_cnntune_is_a_divergence() -> None:
    assert diagnose(ended_in(NAN)(IMPROVING), planned_epochs=30).label == "unstable"


def test_a_log_that_holds_every_row_twice_has_no_more_points() -> None:
    short = run([2.2, 1.7, 1.3, 1.0], [2.1, 1.7, 1.4, 1.15])
    once, twice = diagnose(short), diagnose(doubled(short))
    assert (twice.label, twice.confidence, twice.evidence, twice.epochs) == (
        once.label,
        once.confidence,
        once.evidence,
        4,
    )
