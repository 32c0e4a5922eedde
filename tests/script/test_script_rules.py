"""Rules on records by hand, without torch and without a process."""

from typing import Any

import pytest

from cnntune.script.record import Record, read
from cnntune.script.rules import RULES, explain, judge


def step(number: int, **changed: Any) -> dict[str, Any]:
    """A sound step: one backward pass, cleared before."""
    usual = {
        "k": "step", "n": number, "step": number, "optimizer": 1, "at": "train.py:9", "lr": [0.1],
        "deep": False, "scaler": False, "scaled": False, "cut": False, "of": 2, "none": 0,
        "cleared": True, "back": [0], "lost": [],
    }  # fmt: skip
    return {**usual, **changed}


def record(*events: dict[str, Any], **keys: Any) -> Record:
    backward = {"k": "backward", "n": 0, "at": "train.py:8", "leaf": False, "loss": 1.0}
    return Record([backward, *events], optimizers={"1": {"class": "SGD"}}, **keys)


def found(record: Record) -> list[tuple[str, str]]:
    return [(f.rule, f.severity) for f in judge(record) if f.severity in ("warn", "fail")]


def test_steps_after_cleared_gradients_are_sound() -> None:
    assert found(record(*(step(i) for i in range(20)))) == []


def test_gradients_that_are_never_cleared_are_named_with_the_line_of_the_step() -> None:
    (finding,) = judge(record(*(step(i, cleared=i == 0) for i in range(20))))
    assert (finding.rule, finding.severity) == ("missing-zero-grad", "fail")
    assert finding.where == "train.py:9"
    assert "19 of 19 steps" in finding.evidence


def test_a_discriminator_that_is_dirty_at_one_step_in_five_is_sound() -> None:
    assert found(record(*(step(i, cleared=i % 5 != 0) for i in range(20)))) == []


@pytest.mark.parametrize(("steps", "expected"), [(9, []), (40, [("learning-rate", "fail")])])
def test_a_rate_of_zero_is_a_bug_unless_a_warm_up_may_end(
    steps: int, expected: list[tuple[str, str]]
) -> None:
    assert found(record(*(step(i, lr=[0.0]) for i in range(steps)))) == expected


def test_a_rule_that_raises_costs_its_own_verdict_only() -> None:
    broken = record(*(step(i, cleared=i == 0, lr=["?"]) for i in range(20)))
    rules = {finding.rule: finding.severity for finding in judge(broken)}
    assert rules["missing-zero-grad"] == "fail"
    assert rules["learning-rate"] == "info"


def test_a_hook_that_raised_is_reported() -> None:
    (finding,) = judge(record(errors={"note_loss": "KeyError('x')"}))
    assert (finding.rule, finding.severity) == ("observer", "info")


def test_a_loss_that_is_not_finite_is_named() -> None:
    nan = {"k": "backward", "n": 3, "at": "train.py:8", "leaf": False, "loss": float("nan")}
    assert ("finite-loss", "fail") in found(record(nan))


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_a_lesson_that_begins_with_a_sentence(rule: str) -> None:
    first = explain(rule).partition("\n\n")[0]
    assert first.endswith(".")
    assert len(explain(rule)) > 40


def test_a_record_that_is_torn_is_left_out(tmp_path: Any) -> None:
    (tmp_path / "record-1.json").write_text('{"format": 1, "steps": 3')
    (tmp_path / "record-2.json").write_text('{"format": 1, "steps": 4, "events": []}')
    assert [one.steps for one in read(tmp_path)] == [4]


def tried(**experiments: Any) -> list[tuple[str, str]]:
    usual = {"name": "cross_entropy", "at": "train.py:7", "kinds": 4}
    return found(Record([], steps=100, experiments={**usual, **experiments}))


MEMORIZED = {"rows": 32, "distinct": 32, "first": 1.4, "real": 0.1, "blank": 1.3, "steps": 100}
LEARNED = {
    "rows": 700,
    "held": 300,
    "real": 0.3,
    "blank": 1.38,
    "real_held": 0.4,
    "blank_held": 1.4,
}


def test_a_network_that_memorizes_no_better_than_with_blank_inputs_does_not_use_them() -> None:
    blind = {**MEMORIZED, "real": 1.29, "whole": True}
    assert tried(memorized=blind) == [("input-used", "warn")]
    assert tried(memorized={**blind, "real": 0.1}) == []
    assert tried(memorized={**blind, "distinct": 3}) == []  # states of a small world
    assert tried(memorized={**blind, "whole": False}) == []  # out of time
    assert tried(memorized={**blind, "blank": 0.1, "real": 0.1}) == []  # nothing to tell apart
    assert tried(memorized=blind, name="kl_div") == []


def test_labels_that_are_memorized_and_never_carry_over_do_not_belong_to_their_inputs() -> None:
    shuffled = {**LEARNED, "real_held": 1.5}
    assert tried(learned=shuffled) == [("learns", "warn")]
    assert tried(learned=LEARNED) == []
    assert tried(learned={**shuffled, "real": 1.37}) == []  # nothing was memorized either
    assert tried(learned={**shuffled, "rows": 100}) == []
    own_and_others = {"held_own": 1.5, "held_others": 1.52}
    assert tried(learned={**shuffled, **own_and_others}) == [("learns", "warn")]
    assert tried(learned={**shuffled, **own_and_others, "held_others": 1.9}) == []  # too few


def test_a_lower_rate_that_learns_where_the_own_does_not_is_a_failure() -> None:
    backs = [
        {"k": "backward", "n": i, "at": "train.py:8", "leaf": False, "loss": 0.7} for i in range(60)
    ]
    rates = [[0.5, 0.7, 0.8], [0.05, 0.7, 0.69], [0.005, 0.7, 0.4]]
    about = {"name": "cross_entropy", "at": "train.py:7", "kinds": 2}
    for_steps = [step(i, lr=[0.5]) for i in range(60)]
    both = [event for pair in zip(backs, for_steps, strict=True) for event in pair]
    known: dict[str, Any] = {"optimizers": {"1": {"class": "SGD"}}, "steps": 60}
    bad = Record(both, experiments={**about, "rates": rates}, **known)
    assert found(bad) == [("learning-rate", "fail")]
    for i, event in enumerate(backs):
        event["loss"] = 0.7 - 0.01 * i  # the script's own loss fell
    assert found(Record(both, experiments={**about, "rates": rates}, **known)) == []
    for i, event in enumerate(backs):
        event["loss"] = (0.7 - 0.01 * i) / 16  # as where gradients of 16 batches are accumulated
    assert found(Record(both, experiments={**about, "rates": rates}, **known)) == []


def micro_batches(factor: float, summed: float | None) -> Record:
    """Ten steps of four backward passes each, all of one line."""
    events: list[dict[str, Any]] = []
    for n in range(10):
        first = len(events)
        events += [
            {"k": "backward", "n": n, "at": "train.py:8", "leaf": False, "loss": 1.0,
             "factor": factor, "leaves": 0, "forwards": [], "pairs": [], "summed": summed}
            for _ in range(4)
        ]  # fmt: skip
        events.append(step(n, back=[first, first + 1, first + 2, first + 3]))
    parameters = {"7": {"name": "w", "size": 1, "looked": 0, "none": 0, "zero": 0}}
    events.append({"k": "optimizer", "n": 0, "optimizer": 1, "at": "", "parameters": [7]})
    return Record(events, optimizers={"1": {"class": "SGD"}}, leaf_sets=[[7]],
                  parameters=parameters)  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "summed", "expected"),
    [
        (1 / 4, 1.0, []),  # means of four micro-batches
        (1 / 16, 1.0, [("accumulation", "fail")]),
        (1 / 32, 8.0, []),  # sums over 8 samples, divided by the 32 of the step
        (1 / 128, 8.0, [("accumulation", "fail")]),
        (1 / 32, None, []),  # a loss of which this is not known
    ],
)
def test_only_what_a_loss_is_per_sample_says_whether_it_was_divided_twice(
    factor: float, summed: float | None, expected: list[tuple[str, str]]
) -> None:
    assert found(micro_batches(factor, summed)) == expected


@pytest.mark.parametrize(("reset", "expected"), [(True, []), (False, ["remade-optimizer"])])
def test_optimizers_of_weights_that_were_reset_are_those_of_folds(
    reset: bool, expected: list[str]
) -> None:
    events = []
    for number in range(1, 6):
        events.append({"k": "optimizer", "n": 5 * number, "optimizer": number, "at": "train.py:5",
                       "parameters": [7], "reset": reset})  # fmt: skip
        events += [step(i, optimizer=number) for i in range(5 * number, 5 * number + 5)]
    assert [rule for rule, _ in found(record(*events))] == expected
