"""What `diagnose` tells to change: keys and values where they are known, the cure otherwise."""

from dataclasses import replace

from drawn_curves import CONVERGED, EXPLODED, IMPROVING, LABELLED, OVERFITTING, every

from cnntune.verdict import diagnose


def test_advice_names_the_key_its_value_and_the_next_one() -> None:
    known = {"train.weight_decay": 1e-4, "augment.crop": 4, "model.dropout": 0.0, "model.width": 32}
    advice = diagnose(OVERFITTING, settings=known).advice
    assert advice == [
        "raise train.weight_decay from 0.0001 towards 0.001",
        "set model.dropout to 0.2 (now 0)",
        "collect more training images",
        "lower model.width from 32 towards 16",
        "keep the weights of epoch 5",
    ]


def test_advice_for_divergence_lowers_the_rate_first() -> None:
    known = {"train.lr": 0.5, "train.warmup_epochs": 0.0, "train.grad_clip": 1.0}
    advice = diagnose(EXPLODED, settings=known).advice
    assert advice[:2] == [
        "lower train.lr from 0.5 towards 0.05",
        "set train.warmup_epochs to 1 (now 0)",
    ]
    assert not any("grad_clip" in line for line in advice)


def test_advice_without_settings_is_general() -> None:
    advice = diagnose(OVERFITTING).advice
    assert advice[0] == "augment the training images: random crops, flips, colour"
    assert not any("." in line for line in advice)


def test_values_of_the_wrong_type_in_an_edited_config_count_as_unknown() -> None:
    odd = {"train.weight_decay": "small", "augment.crop": [4], "model.width": None}
    assert diagnose(OVERFITTING, settings=odd).advice == diagnose(OVERFITTING).advice


def test_a_run_that_still_improves_gets_more_epochs_or_those_it_was_promised() -> None:
    assert diagnose(IMPROVING, settings={"train.epochs": 10}).advice == [
        "raise train.epochs from 10 towards 20"
    ]
    found = diagnose(IMPROVING, planned_epochs=30, settings={"train.epochs": 30})
    assert found.advice == ["let the run finish its 30 epochs"]
    assert "stopped-early" in found.flags
    assert "stopped-early" not in diagnose(IMPROVING, planned_epochs=10).flags


def test_a_run_at_rest_for_its_second_half_was_too_long() -> None:
    known = {"train.schedule": "constant", "train.epochs": 30}
    found = diagnose(CONVERGED, settings=known)
    assert found.advice == [
        "set train.schedule to cosine (now constant)",
        "lower train.epochs from 30 towards 15",
    ]
    assert "saturated-early" in found.flags


def test_a_schedule_that_ran_out_is_flagged() -> None:
    rates = every(lambda epoch: 0.05 * (1 - epoch / 10) ** 2, 10)
    assert "schedule-ended" in diagnose(replace(IMPROVING, lr=rates)).flags
    assert "schedule-ended" not in diagnose(replace(IMPROVING, lr=[0.05] * 10)).flags


def test_advice_fits_the_terminal() -> None:
    for curve in LABELLED.values():
        for line in diagnose(curve).advice:
            assert len(line) <= 96
            assert line[0].islower()
