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


def forward(index: int, rows: list[int], **changed: Any) -> dict[str, Any]:
    """A forward pass of 40 values per sample, without gradients."""
    usual = {
        "k": "forward", "n": 0, "model": 3, "at": "train.py:20", "by": "train.py:20",
        "index": index, "train": False, "grad": False, "active": 0, "watched": 1, "norms": 0,
        "trains": True, "shape": [len(rows), 40], "type": "float32", "rows": rows,
    }  # fmt: skip
    return {**usual, **changed}


def trained_on(index: int, n: int, rows: list[int]) -> list[dict[str, Any]]:
    """A training step on some samples, at a line of its own."""
    learned = {"train": True, "grad": True, "active": 1, "at": "train.py:7", "norms": 1}
    backward = {"k": "backward", "n": n, "at": "train.py:8", "leaf": False, "loss": 1.0}
    graph = {"leaves": 0, "forwards": [index], "pairs": [], "spread": []}
    return [forward(index, rows, n=n, **learned), {**backward, **graph}, step(n)]


def two_folds(*, reset: bool, tested: range) -> Record:
    """Twenty steps without the samples 0 to 63, and twenty without 64 to 127; then a test."""
    events: list[dict[str, Any]] = [
        {"k": "optimizer", "n": 0, "optimizer": 1, "at": "train.py:5", "parameters": [7]}
    ]
    for n in range(40):
        begin = (64 if n < 20 else 0) + 16 * (n % 4)
        events += trained_on(n, n, list(range(begin, begin + 16)))
        events[-1]["reset"] = reset and n == 20
    events.append({"k": "pass", "n": 40, "batches": 2, "at": "train.py:19"})
    events.append(forward(41, list(tested), n=40))
    entry = {"7": {"name": "w", "size": 9, "looked": 0, "none": 0, "zero": 0}}
    models = {"3": {"class": "Net", "shapes": 1, "first": [0.0]}}
    return Record(events, leaf_sets=[[7]], parameters=entry, models=models, steps=40,
                  optimizers={"1": {"class": "SGD"}})  # fmt: skip


@pytest.mark.parametrize(
    ("reset", "tested", "rule"),
    [
        (False, range(64, 128), "folds-apart"),  # trained on in the first fold
        (True, range(64, 128), ""),
        (False, range(64), "split"),  # trained on up to now
        (False, range(200, 264), ""),
    ],
)
def test_a_fold_that_was_trained_on_before_is_told_from_a_network_that_was_reset(
    reset: bool, tested: range, rule: str
) -> None:
    named = {name for name, _ in found(two_folds(reset=reset, tested=tested))}
    assert (rule in named) if rule else not named & {"folds-apart", "split"}
    assert ("folds-apart" in named) == (rule == "folds-apart")


def labelled(changed: int) -> Record:
    """Two epochs of 60 samples, the first `changed` of which have another label in the second."""
    events: list[dict[str, Any]] = []
    for epoch in (0, 1):
        labels = [(i % 3 + (epoch if i < changed else 0)) % 3 for i in range(60)]
        events.append(forward(epoch + 1, list(range(60)), grad=True, train=True))
        events.append(
            {"k": "loss", "n": epoch, "name": "cross_entropy", "at": "train.py:7", "grad": True,
             "reduction": "mean", "plain": True, "shapes": [[60, 3], [60]],
             "rows": list(range(60)), "labels": labels}
        )  # fmt: skip
    return Record(events)


def test_labels_that_change_with_the_epoch_are_shuffled_apart_and_a_few_are_meant() -> None:
    assert found(labelled(40)) == [("labels-stay", "warn")]
    assert found(labelled(12)) == []
    assert found(labelled(0)) == []


def loaded(fitting: int, module: int = 4) -> dict[str, Any]:
    return {"k": "loaded", "n": 0, "module": module, "given": 6, "fitting": fitting,
            "name": "module.fc.weight", "own": "fc.weight", "at": "train.py:3"}  # fmt: skip


def test_a_state_that_fits_nowhere_is_named_unless_another_one_fits() -> None:
    (finding,) = judge(Record([loaded(0)]))
    assert (finding.rule, finding.severity) == ("loaded-nothing", "fail")
    assert "module.fc.weight is not, fc.weight is" in finding.evidence
    assert judge(Record([loaded(0), loaded(6)])) == []
    assert judge(Record([loaded(2)])) == []  # a body, without its head
    assert [f.rule for f in judge(Record([loaded(0), loaded(6, module=5)]))] == ["loaded-nothing"]


@pytest.mark.parametrize(
    ("averages", "looks", "expected"),
    [
        ([0.0, 8.0], [1.0, 2.0], ["norm-averages"]),
        ([0.5, 6.0], [1.0, 2.0], []),  # buffers follow
        ([0.0, 8.0], [1.0, 1.0], []),  # a teacher that stays as it is
    ],
)
def test_running_averages_of_a_copy_must_follow_its_weights(
    averages: list[float], looks: list[float], expected: list[str]
) -> None:
    events: list[dict[str, Any]] = []
    for n in range(30):
        events += trained_on(n, n, [4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3])
    for index, look in enumerate(looks):
        seen = {"n": 15 * (index + 1), "model": 9, "look": [look]}
        stays = [0.0, 8.0] if index == 0 else averages
        events.append(forward(40 + index, [1000], **seen, averages=stays))
    models = {
        "3": {"class": "Net", "shapes": 1, "first": [0.0]},
        "9": {"class": "Average", "shapes": 1, "first": [0.0]},
    }
    held = {"k": "optimizer", "n": 0, "optimizer": 1, "at": "train.py:5", "parameters": [7]}
    entry = {"7": {"name": "w", "size": 9, "looked": 0, "none": 0, "zero": 0}}
    judged = judge(Record([held, *events], leaf_sets=[[7]], models=models, parameters=entry))
    assert [f.rule for f in judged if f.severity == "warn"] == expected


def test_batches_of_one_class_are_sorted_only_where_the_class_differs() -> None:
    def calls(*classes: int, added: int) -> Record:
        usual = {"k": "loss", "name": "cross_entropy", "at": "train.py:7", "grad": True,
                 "reduction": "mean", "plain": True, "shapes": [[32, 5], [32]], "classes": 5,
                 "targets": 32, "kinds": 1, "value": 1.0}  # fmt: skip
        back = {"k": "backward", "at": "train.py:8", "leaf": False, "loss": 1.0}
        return Record(
            [
                event
                for n, one in enumerate(classes)
                for event in (
                    *({**usual, "n": n, "low": one, "high": one} for _ in range(added)),
                    {**back, "n": n},
                    step(n, back=[]),
                )
            ]
        )

    def judged(*classes: int, added: int = 1) -> list[tuple[str, str]]:
        return [one for one in found(calls(*classes, added=added)) if "class" in one[0]]

    assert judged(*[0] * 5, *[1] * 5) == [("one-class-batches", "fail")]
    assert judged(*range(5), *range(5)) == [("one-class-batches", "fail")]  # a batch per class
    assert judged(*[0] * 5, *[1] * 5, added=2) == []  # their losses are added
    assert judged(*[0, 1] * 5) == []  # they take turns: real and generated samples
    assert judged(*[4] * 10) == []  # the class of what a generator made


def two_losses(*, cleared: bool) -> Record:
    """Twelve steps of two backward passes, to the parameters 7 and 8, cleared between or not."""
    events: list[dict[str, Any]] = [
        {"k": "optimizer", "n": 0, "optimizer": 1, "at": "", "parameters": [7, 8]}
    ]
    for n in range(12):
        first = len(events)
        events += [
            {"k": "backward", "n": n, "at": f"train.py:{8 + which}", "leaf": False, "loss": 1.0,
             "leaves": which, "forwards": [], "pairs": []}
            for which in (0, 1)
        ]  # fmt: skip
        events.append({"k": "clear", "n": n, "optimizers": [1], "at": "train.py:7"})
        used = {"back": [first + 1], "lost": [first]} if cleared else {"back": [first, first + 1]}
        events.append(step(n, **used, none=int(cleared)))
    entry = {"size": 3, "looked": 12, "zero": 0}
    parameters = {
        "7": {**entry, "name": "age.weight", "none": 12 if cleared else 0},
        "8": {**entry, "name": "kind.weight", "none": 0},
    }
    return Record(events, optimizers={"1": {"class": "SGD"}}, leaf_sets=[[7], [8]],
                  parameters=parameters)  # fmt: skip


def test_gradients_of_a_first_loss_that_no_step_uses_are_named_with_their_parameters() -> None:
    (finding,) = [f for f in judge(two_losses(cleared=True)) if f.severity == "fail"]
    assert finding.rule == "cleared-gradients"
    assert finding.evidence.startswith("age.weight: ")
    assert finding.where == "train.py:7"
    assert found(two_losses(cleared=False)) == []


@pytest.mark.parametrize(
    ("alike", "values", "expected"),
    [
        ([0.02, -0.1, 0.05], 192, ["overwritten-weights"]),
        ([1.0, 1.0, 0.05], 192, []),  # a new head
        ([0.93, 0.9, 0.95], 192, []),  # noise
        ([0.02], 12, []),  # too few to tell
    ],
)
def test_loaded_weights_that_have_nothing_in_common_with_those_that_are_used_are_named(
    alike: list[float], values: int, expected: list[str]
) -> None:
    event = {"k": "first weights", "n": 0, "alike": alike, "values": values, "at": "train.py:3"}
    assert [f.rule for f in judge(Record([event])) if f.severity == "fail"] == expected


@pytest.mark.parametrize(
    ("twin", "joined", "expected"),
    [
        (True, True, [("alike-views", "warn")]),
        (True, False, []),  # two losses of one batch that are added
        (False, True, []),  # other samples, or dropout
    ],
)
def test_equal_views_are_named_only_where_their_answers_are_compared(
    twin: bool, joined: bool, expected: list[tuple[str, str]]
) -> None:
    events: list[dict[str, Any]] = []
    for n in range(10):
        rows = [8 * n + i for i in range(8)]
        learned = {"n": n, "train": True, "grad": True, "active": 1, "at": "train.py:7"}
        one, other = 2 * n + 1, 2 * n + 2
        pair = {"joined": [[one, other]] if joined else []}
        events += [
            forward(one, rows, **learned),
            forward(other, rows, **learned, twin=one if twin else 0),
            {"k": "backward", "n": n, "at": "train.py:8", "leaf": False, "loss": 1.0, "leaves": 0,
             "forwards": [one, other], "pairs": [], **pair},
            step(n, back=[]),
        ]  # fmt: skip
    judged = found(Record(events, leaf_sets=[[]], steps=10, optimizers={"1": {"class": "SGD"}}))
    assert [one for one in judged if one[0] == "alike-views"] == expected


def epochs_of(modes: str, *, measured: bool) -> Record:
    """Ten training steps per letter in train (T) or eval (E) mode, maybe after a validation."""
    events: list[dict[str, Any]] = []
    for part, mode in enumerate(modes):
        if measured:
            events.append(forward(100 * part + 1, [1000], n=10 * part))
        for n in range(10 * part, 10 * part + 10):
            steps = trained_on(100 * part + n % 10 + 2, n, [4 * n, 4 * n + 1, 4 * n + 2])
            steps[0].update(train=mode == "T", active=int(mode == "T"), norms=int(mode == "T"))
            events += steps
    held = {"k": "optimizer", "n": 0, "optimizer": 1, "at": "train.py:5", "parameters": [7]}
    entry = {"7": {"name": "w", "size": 9, "looked": 0, "none": 0, "zero": 0}}
    return Record([held, *events], leaf_sets=[[7]], models={"3": {"class": "Net", "shapes": 1}},
                  parameters=entry)  # fmt: skip


@pytest.mark.parametrize(
    ("modes", "measured", "expected"),
    [
        ("TETE", True, [("eval-while-training", "fail")]),
        ("ETET", True, [("eval-while-training", "fail")]),  # a validation before the first step
        ("ETET", False, []),  # no validation: two stages
        ("TTTT", True, []),
        ("EEEE", True, [("eval-while-training", "warn")]),
    ],
)
def test_a_validation_that_leaves_eval_mode_on_until_the_next_epoch_is_named(
    modes: str, measured: bool, expected: list[tuple[str, str]]
) -> None:
    assert found(epochs_of(modes, measured=measured)) == expected


def test_mixed_samples_have_two_labels() -> None:
    first, loss, *_ = labelled(0).events
    other = {**loss, "labels": [(label + 1) % 3 for label in loss["labels"]]}
    assert found(Record([first, loss, other])) == []


def test_labels_that_a_network_gave_may_change() -> None:
    given = forward(1, list(range(60)))
    assert found(Record([given, *labelled(60).events])) == []


@pytest.mark.parametrize(
    ("factor", "terms", "expected"),
    [
        (0.5, [], [("loss-terms", "warn")]),
        (1 / 64, [], []),  # a mean over the samples
        (4 / 64, [], []),  # a strong weight of it
        (0.5, [["log-probability", -1, 1.0, "", "given"]], []),  # sums over an episode
    ],
)
def test_a_sum_over_the_batch_beside_a_mean_is_named_unless_it_is_divided(
    factor: float, terms: list[Any], expected: list[tuple[str, str]]
) -> None:
    event = {"k": "backward", "n": 0, "at": "train.py:8", "leaf": False, "loss": 1.0, "leaves": 0,
             "forwards": [], "pairs": [], "spread": [], "terms": terms,
             "balance": [64, factor]}  # fmt: skip
    assert found(Record([event] * 6, leaf_sets=[[]])) == expected


@pytest.mark.parametrize(
    ("warm", "calls", "severity"), [(0, 320, "warn"), (0, 120, "info"), (90, 100, "")]
)
def test_a_loss_at_log_c_is_a_remark_until_300_steps_and_nothing_during_a_warm_up(
    warm: int, calls: int, severity: str
) -> None:
    events = []
    for n in range(calls):
        events.append({"k": "loss", "n": n, "name": "cross_entropy", "at": "train.py:7",
                       "grad": True, "reduction": "mean", "plain": True, "classes": 4,
                       "shapes": [[32, 4], [32]], "value": 1.3863, "targets": 32, "kinds": 4,
                       "low": 0, "high": 3})  # fmt: skip
        events.append(step(n, lr=[0.1 * min(1.0, (n + 1) / (2 * warm + 1))]))
    judged = [f.severity for f in judge(Record(events)) if f.rule == "stuck-loss"]
    assert judged == ([severity] if severity else [])


def same_draws(**counts: Any) -> Record:
    """Forty training steps with the same sixteen samples, each time in another tensor."""
    events: list[dict[str, Any]] = [
        {"k": "optimizer", "n": 0, "optimizer": 1, "at": "train.py:5", "parameters": [7]}
    ]
    for n in range(40):
        events += trained_on(n, n, list(range(16)))
        events[-3]["again"] = False
    entry = {"7": {"name": "w", "size": 9, "looked": 0, "none": 0, "zero": 0}}
    return Record(events, leaf_sets=[[7]], parameters=entry, steps=40, counts=counts,
                  models={"3": {"class": "Net", "shapes": 1}})  # fmt: skip


def test_equal_batches_are_named_where_they_are_drawn_and_not_where_a_table_is_copied() -> None:
    drawn = {"drawn with a generator": {"train.py:6": 40}}
    assert found(same_draws(**drawn)) == [("same-batch", "warn")]
    assert found(same_draws()) == []


def measured(*rows: int) -> list[tuple[str, str]]:
    """Three epochs on the samples 0 to 255, and an evaluation of some without a loader."""
    events: list[dict[str, Any]] = [
        {"k": "optimizer", "n": 0, "optimizer": 1, "at": "train.py:5", "parameters": [7]}
    ]
    for n in range(48):
        events += trained_on(n, n, list(range(16 * (n % 16), 16 * (n % 16) + 16)))
    events.append(forward(60, list(rows), n=48, route=1))
    entry = {"7": {"name": "w", "size": 9, "looked": 0, "none": 0, "zero": 0}}
    models = {"3": {"class": "Net", "shapes": 1, "first": [0.0]}}
    known = Record(events, leaf_sets=[[7]], parameters=entry, models=models, steps=48,
                   optimizers={"1": {"class": "SGD"}})  # fmt: skip
    return [one for one in found(known) if one[0] == "split"]


def test_copies_are_found_in_an_evaluation_without_a_loader() -> None:
    copies, new = [i % 30 for i in range(60)], list(range(1000, 1060))
    assert measured(*copies, *new) == [("split", "warn")]
    assert measured(*range(60), *new) == []  # two sets, without a copy in either
    assert measured(*new, *new) == []  # repeated within the validation set alone
    assert measured(*range(120)) == []  # the accuracy on a part of the training set
    assert measured(*range(256), *copies) == []  # all data in one tensor
