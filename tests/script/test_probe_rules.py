"""Rules on what losses were given and on what a copy of the model did, on records by hand."""

from typing import Any

import pytest

from cnntune.script.record import Record
from cnntune.script.rules import judge


def bad(record: Record) -> list[tuple[str, str]]:
    return [(f.rule, f.severity) for f in judge(record) if f.severity in ("warn", "fail")]


def numbers(low: float, high: float, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"min": low, "max": high, "shape": shape, "float": True, **more}


def losses(name: str, given: dict[str, Any], target: dict[str, Any], **more: Any) -> Record:
    """Five calls of a loss function while training."""
    facts = {"input": given, "target": target, "source": "Addmm", "input_grad": True, **more}
    event = {
        "k": "loss", "n": 0, "name": name, "at": "train.py:7", "grad": True,
        "reduction": "mean", "plain": True, "shapes": [given["shape"], target["shape"]],
        "contract": facts,
    }  # fmt: skip
    return Record([event] * 5)


LOGITS = numbers(-2.0, 3.0, [32, 4], sums=[9.0, 4.0], log_sums=[3.0, 1.0])
SOFTMAX = numbers(0.01, 0.9, [32, 4], sums=[9.0, 0.0], log_sums=[3.0, 1.6])
CLASSES = {"min": 0.0, "max": 3.0, "shape": [32], "float": False}
ONE_VALUE = numbers(-1.0, 1.0, [32])
CONTRACT = [("loss-contract", "fail")]


@pytest.mark.parametrize(
    ("name", "given", "target", "more"),
    [
        ("cross_entropy", SOFTMAX, CLASSES, {}),
        ("cross_entropy", numbers(-1.0, 1.0, [32, 1], sums=[1.0, 1.0]), CLASSES, {}),
        ("binary_cross_entropy_with_logits", numbers(0.1, 0.9, [32]), numbers(0, 1, [32]), {}),
        ("binary_cross_entropy_with_logits", ONE_VALUE, numbers(-1, 1, [32]), {}),
        ("cosine_embedding_loss", LOGITS, numbers(0, 1, [32], kinds=[0.0, 1.0]), {}),
        ("hinge_embedding_loss", ONE_VALUE, numbers(0, 1, [32], kinds=[0.0, 1.0]), {}),
        ("ctc_loss", LOGITS, CLASSES, {"blanks": 0.0, "too_long": 0.0}),
        ("poisson_nll_loss", numbers(0.1, 5, [32]), numbers(0, 9, [32]), {"source": "Softplus",
                                                                         "log_input": True}),
        ("mse_loss", numbers(0, 1, [32]), numbers(30, 70, [32]), {"source": "Sigmoid",
                                                                  "unreachable": 1.0}),
    ],
)  # fmt: skip
def test_a_loss_that_gets_what_its_documentation_does_not_allow_is_a_failure(
    name: str, given: dict[str, Any], target: dict[str, Any], more: dict[str, Any]
) -> None:
    assert bad(losses(name, given, target, **more)) == CONTRACT


@pytest.mark.parametrize(
    ("name", "given", "target", "more"),
    [
        ("cross_entropy", LOGITS, CLASSES, {}),
        ("binary_cross_entropy_with_logits", ONE_VALUE, numbers(0, 1, [32]), {}),
        ("cosine_embedding_loss", LOGITS, numbers(-1, 1, [32], kinds=[-1.0, 1.0]), {}),
        ("poisson_nll_loss", numbers(0.1, 5, [32]), numbers(0, 9, [32]), {"source": "Softplus",
                                                                         "log_input": False}),
        ("mse_loss", numbers(0, 1, [32]), numbers(-0.1, 1, [32]), {"source": "Sigmoid",
                                                                   "unreachable": 0.1}),
    ],
)  # fmt: skip
def test_a_loss_that_gets_what_it_takes_is_sound(
    name: str, given: dict[str, Any], target: dict[str, Any], more: dict[str, Any]
) -> None:
    assert bad(losses(name, given, target, **more)) == []


def signed(*terms: list[Any], values: tuple[float, float] = (1.0, 0.5)) -> Record:
    """Thirty losses with these terms, from one value to another."""
    steps = [values[0] + (values[1] - values[0]) * i / 29 for i in range(30)]
    events = [
        {"k": "backward", "n": i, "at": "train.py:8", "leaf": False, "loss": loss, "size": 1,
         "leaves": 0, "forwards": [], "pairs": [], "terms": list(terms)}
        for i, loss in enumerate(steps)
    ]  # fmt: skip
    return Record(events, leaf_sets=[[]], steps=30)


DRAWN = "log-probability"


def test_a_policy_whose_loss_has_no_minus_is_named() -> None:
    assert ("policy-sign", "warn") in bad(signed([DRAWN, 1, 1.0, "mixed", "given"]))
    assert bad(signed([DRAWN, -1, 1.0, "mixed", "given"])) == [("never-stepped", "fail")]


def test_rewards_below_zero_that_differ_from_action_to_action_are_no_sign() -> None:
    rewards = [[DRAWN, -1, reward, "", "given"] for reward in (-1.0, -0.5, 2.0)]
    assert ("policy-sign", "warn") not in bad(signed(*rewards))


def test_the_log_probability_of_a_value_that_is_differentiated_itself_has_any_sign() -> None:
    assert ("policy-sign", "warn") not in bad(signed([DRAWN, 1, 0.2, "", "moved"]))


def test_a_square_that_is_taken_away_makes_a_loss_without_end() -> None:
    taken = ["a square", -1, 0.5, "", ""]
    assert ("loss-sign", "fail") in bad(signed(taken, values=(1.0, -900.0)))
    assert ("loss-sign", "warn") in bad(signed(taken, values=(1.0, -9.0)))
    assert ("loss-sign", "fail") not in bad(signed(taken, values=(1.0, 0.5)))
    assert ("loss-sign", "warn") not in bad(signed(taken, values=(1.0, 0.5)))
    kept = ["a square", 1, 0.5, "", ""]
    assert bad(signed(kept, values=(1.0, -900.0))) == [("never-stepped", "fail")]


def probed(**probes: Any) -> list[tuple[str, str]]:
    return bad(Record([], steps=100, experiments={"probes": {"at": "train.py:7", **probes}}))


def test_a_sample_that_changes_the_answers_for_others_is_a_failure() -> None:
    mixed = {"others": 0.4, "own": 1.0, "rows": 32, "moved": 1.0, "unnormed": 0}
    assert probed(mixed=mixed) == [("samples-apart", "fail")]
    assert probed(mixed={**mixed, "others": 0.0}) == [("samples-apart", "fail")]  # its place does
    assert probed(mixed={**mixed, "others": 0.0, "moved": 0.0}) == []
    assert probed(mixed={**mixed, "unnormed": 1}) == []


def test_answers_that_change_with_later_inputs_see_the_future() -> None:
    seen = {"early": 0.9, "late": 1.0, "length": 24}
    assert probed(future=seen) == [("future-hidden", "fail")]
    assert probed(future={**seen, "early": 0.0}) == []


def test_images_that_are_smooth_only_when_read_channels_last_were_reshaped() -> None:
    seen = {"shape": [3, 20, 20], "samples": 200, "read": [0.0, 0.01], "last": [0.4, 0.5]}
    assert probed(pictures=seen) == [("image-layout", "warn")]
    assert probed(pictures={**seen, "read": [0.9, 0.8]}) == []
    assert probed(pictures={**seen, "last": [0.0, 0.0]}) == []  # noise


def test_bytes_at_both_ends_and_none_between_wrapped_around() -> None:
    seen = {
        "shape": [1, 20, 20], "samples": 200, "ends": [0.5, 0.5], "middle": 0.0,
        "extremes": [0.02, 0.02], "levels": 120,
    }  # fmt: skip
    assert probed(pictures=seen) == [("image-layout", "warn")]
    assert probed(pictures={**seen, "extremes": [0.4, 0.3]}) == []  # ink on paper


def test_masks_that_fit_mirrored_images_are_a_failure() -> None:
    assert probed(flips={"pairs": 300, "as_it_is": 0.5}) == [("mask-follows-image", "fail")]
    assert probed(flips={"pairs": 300, "as_it_is": 0.99}) == []
    assert probed(flips={"pairs": 9, "as_it_is": 0.5}) == []


def test_validation_inputs_of_another_scale_are_named() -> None:
    seen = {"rows": [700, 300], "train": [0.0, 1.0], "validation": [0.1, 1.3]}
    assert probed(scales=seen) == []
    assert probed(scales={**seen, "validation": [40.0, 9.0]}) == [("same-scale", "warn")]
    assert probed(scales={**seen, "validation": [120.0, 70.0]}) == [("same-scale", "fail")]


def test_answers_that_are_worse_than_a_guess_have_a_loss_of_the_wrong_sign() -> None:
    seen = {"accuracy": 0.02, "rows": 400, "classes": 4}
    assert probed(agreement=seen) == [("loss-goal", "warn")]
    assert probed(agreement={**seen, "accuracy": 0.22}) == []
    assert probed(agreement={"correlation": -0.6, "values": 9000}) == [("loss-goal", "warn")]


def test_pairs_that_the_loss_drives_the_wrong_way_are_named() -> None:
    seen = {"inputs": -1.6, "outputs": 0.1, "pairs": 1000}
    assert probed(pairs=seen) == [("loss-goal", "warn")]
    assert probed(pairs={**seen, "outputs": -2.5}) == []
    assert probed(pairs={**seen, "inputs": -0.1}) == []


def planned(**changed: Any) -> list[tuple[str, str]]:
    plan = {
        "name": "LambdaLR", "epochs": 8, "per_epoch": 1.0, "per_step": False, "at": "train.py:9",
        "total": 8, "highest": 4e-5, "at_last": 2e-3, "ends_at": None, "rates": [],
    }  # fmt: skip
    return bad(Record([], experiments={"schedules": [{**plan, **changed}]}))


def test_a_warm_up_that_the_training_never_leaves_is_a_failure() -> None:
    assert planned() == [("schedule-length", "fail")]
    assert planned(highest=2e-3) == []
    assert planned(epochs=2) == []  # a short try


def test_a_schedule_that_is_over_before_the_half_is_named() -> None:
    assert planned(highest=2e-3, ends_at=0.3) == [("schedule-length", "warn")]
    assert planned(highest=2e-3, ends_at=0.9) == []


def test_a_sampler_with_a_weight_per_class_is_a_failure() -> None:
    made = {"k": "pass", "n": 0, "loader": 1, "dataset": 1, "batches": 10, "ordered": False,
            "at": "train.py:5", "samples": 640, "weights": 4}  # fmt: skip
    assert bad(Record([made])) == [("drawn-samples", "fail")]
    assert bad(Record([{**made, "weights": 640}])) == []


def test_validation_samples_that_nothing_carries_over_to_are_named() -> None:
    learned = {
        "rows": 700, "held": 300, "real": 0.9, "blank": 1.38, "real_held": 1.0, "blank_held": 1.39,
        "held_own": 1.0, "held_others": 1.5, "validation_own": 1.7, "validation_others": 1.6,
        "validated": 300,
    }  # fmt: skip
    about = {"name": "cross_entropy", "at": "train.py:7", "kinds": 4}

    def judged(**changed: float) -> list[tuple[str, str]]:
        return bad(Record([], experiments={**about, "learned": {**learned, **changed}}))

    assert judged() == [("validation-alike", "warn")]
    assert judged(validation_own=1.05) == []
    assert judged(held_own=1.36) == []  # nothing was learned either
    assert judged(validated=40) == []


def test_an_input_that_tells_the_target_is_named_where_there_are_several() -> None:
    seen = {"rows": 700, "of": 20, "column": 7, "how": "it is one number for each class"}
    assert probed(columns=seen) == [("target-hidden", "warn")]
    assert probed(columns={**seen, "of": 1}) == []  # a toy: the target is the input


def test_an_argument_without_any_effect_is_named() -> None:
    assert probed(unused={"names": ["condition"]}) == [("inputs-used", "warn")]


def test_padding_that_counts_in_the_loss_is_named() -> None:
    def padded(ignored: int, share: float = 0.4) -> list[tuple[str, str]]:
        calls = losses("cross_entropy", LOGITS, CLASSES, ignore_index=ignored).events
        seen = {"value": 0, "rows": 1.0, "share": share}
        return bad(Record(calls, experiments={"probes": {"at": "train.py:7", "padding": seen}}))

    assert padded(-100) == [("padding-ignored", "warn")]
    assert padded(0) == []
    assert padded(-100, share=0.05) == []


def test_weights_that_follow_the_frequency_are_named() -> None:
    def weighted(*weights: float) -> list[tuple[str, str]]:
        more = {"weights": list(weights), "counts": [100, 10]}
        return bad(losses("cross_entropy", LOGITS, CLASSES, **more))

    assert weighted(0.9, 0.1) == [("class-weights", "warn")]
    assert weighted(0.1, 0.9) == []
    assert weighted(1.0, 1.0) == []


def test_batches_of_one_sample_many_times_are_named() -> None:
    def trained(rows: list[int]) -> list[tuple[str, str]]:
        events: list[dict[str, Any]] = []
        for i in range(10):
            events += [
                {"k": "forward", "n": i, "index": i + 1, "model": 1, "at": "train.py:6", "by": "",
                 "grad": True, "train": True, "active": 0, "watched": 0, "trains": True,
                 "shape": [8, 20], "type": "float32", "rows": [row + 100 * i for row in rows]},
                {"k": "backward", "n": i, "at": "train.py:8", "leaf": False, "leaves": 0,
                 "forwards": [i + 1], "pairs": [], "size": 1},
            ]  # fmt: skip
        return bad(Record(events, leaf_sets=[[]], steps=10))

    assert ("alike-samples", "warn") in trained([5] * 8)
    assert ("alike-samples", "warn") not in trained(list(range(8)))
