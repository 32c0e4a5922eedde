"""Large networks are looked at with less, and what is left out is said."""

import gc
import re
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from own_set_up import CPU, DATA, HEALTHY, LOSS, OwnSetUp
from torch import nn

from cnntune.steps.sanity import TRAINED_RULES
from cnntune.steps.sanity.learning import learns
from cnntune.steps.sanity.outputs import initial_loss
from cnntune.steps.sanity.subject import Cost, Subject, computing_seconds
from cnntune.steps.sanity.tiny import overfit_tiny_batch

SLOW = Cost(image=10.0, update=1.0)  # seconds: a step with ten images takes 101


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> OwnSetUp:
    return OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)


def test_steps_and_images_follow_from_what_they_cost() -> None:
    cost = Cost(image=0.3, update=1.0)
    assert cost.steps(21.0, images=10) == 5  # of 10 * 0.3 s + 1 s each
    assert cost.images(20.05) == 200  # forward alone is a third


def test_one_quick_pass_shows_what_a_network_costs(
    own: OwnSetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two passes beside other programs, and then the machine is free.
    times = iter([0.3, 0.3, *[0.01] * 20])
    reads: list[float] = []

    def seconds(_: torch.device) -> float:
        reads.append(next(times) if len(reads) % 2 else 0.0)
        return reads[-1]

    monkeypatch.setattr("cnntune.steps.sanity.subject.computing_seconds", seconds)
    # 16 images take as long on this clock as 4.
    assert own.subject().cost.image == pytest.approx(0.01 / 16)


def test_a_tiny_sample_has_ten_images_at_least(own: OwnSetUp) -> None:
    # 20 s allow a hundred steps of two images; 40 s allow 40 of ten.
    subject = replace(own.subject(), cost=Cost(image=0.1, update=0.0))
    assert overfit_tiny_batch(subject).images == 10


def test_a_network_that_is_too_slow_is_not_trained_and_not_blamed(own: OwnSetUp) -> None:
    subject = replace(own.subject(), cost=SLOW)
    overfit = overfit_tiny_batch(subject)
    assert not overfit.attempts
    said = [f for name in TRAINED_RULES for f in TRAINED_RULES[name](subject, overfit)]
    assert {f.severity for f in said} <= {"ok", "info"}
    texts = {f.rule: f.evidence for f in said}
    assert texts["overfit-tiny"] == "skipped: a training step on 10 images takes 101.0 s"
    assert texts["learns"].startswith("skipped: training takes too long here")


def test_a_small_network_is_looked_at_in_full(own: OwnSetUp) -> None:
    subject = own.subject()
    assert (
        len(subject.labels) == 180
    )  # all there are: two fifths of 300 are for validation and test
    assert overfit_tiny_batch(subject).images == 32


def test_an_initial_loss_of_few_images_says_so(own: OwnSetUp) -> None:
    subject = own.subject()
    few = replace(subject, kept_inputs=subject.inputs[:8], labels=subject.labels[:8])
    assert "(3 times 8 images)" in initial_loss(few)[0].evidence
    assert "images" not in initial_loss(subject)[0].evidence


@pytest.mark.slow
def test_of_many_attempts_one_network_is_kept_beside_the_untrained_one(
    own: OwnSetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = own.subject(HEALTHY, LOSS + "return 0 * F.cross_entropy(logits, targets)\n")
    alive: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    build = Subject.model

    def watched(self: Subject, draw: int = 0) -> nn.Module:
        model = build(self, draw)
        alive.add(model)
        return model

    monkeypatch.setattr(Subject, "model", watched)
    overfit = overfit_tiny_batch(subject)
    assert len(overfit.attempts) > 4
    gc.collect()
    assert set(alive) == {overfit.model, subject.untrained}


@pytest.mark.slow
def test_looks_that_the_clock_cut_short_are_no_verdict(
    own: OwnSetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Labels that are drawn at random, which is a failure where there was time to train.
    data = DATA + "    generator = torch.Generator().manual_seed(0)\n"
    data += "    y = torch.randint(10, y.shape, generator=generator)\n"
    data += "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
    subject = own.subject(data=data)
    overfit = overfit_tiny_batch(subject)
    assert [f.severity for f in learns(subject, overfit)] == ["fail"]
    monkeypatch.setattr("cnntune.steps.sanity.learning.LEARN_WALL", 0.0)
    assert [f.severity for f in learns(subject, overfit)] == ["info"]


@pytest.mark.slow
@pytest.mark.parametrize(("images", "severity"), [(150, "warn"), (250, "fail")])
def test_few_images_at_chance_level_are_no_failure(
    own: OwnSetUp, images: int, severity: str
) -> None:
    data = DATA + "    generator = torch.Generator().manual_seed(0)\n"
    data += "    y = torch.randint(10, y.shape, generator=generator)\n"
    data += f"    x, y = x[:{images}], y[:{images}]\n"
    data += "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
    subject = own.subject(data=data)
    (said,) = learns(subject, overfit_tiny_batch(subject))
    assert said.severity == severity
    why = f"too few images to judge: {images} training images of 10 classes may not suffice"
    assert (why in said.evidence) == (severity == "warn")


def test_time_that_other_programs_take_is_not_counted() -> None:
    start = computing_seconds(CPU)
    time.sleep(0.3)
    assert computing_seconds(CPU) - start < 0.1


@pytest.mark.slow
def test_decay_that_takes_a_tenth_of_each_weight_per_step_is_named(own: OwnSetUp) -> None:
    subject = own.subject(
        data=DATA + "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
    )
    train = subject.recipe.train.model_copy(
        update={"optimizer": "sgd", "lr": 0.1, "weight_decay": 10.0}
    )
    changed = replace(subject, recipe=subject.recipe.model_copy(update={"train": train}))
    found = learns(changed, overfit_tiny_batch(changed))
    (named,) = [one for one in found if one.rule == "optimizer"]
    assert named.severity == "fail"
    assert "with train.weight_decay = 0" in named.evidence
