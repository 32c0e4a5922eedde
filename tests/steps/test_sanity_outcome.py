"""Symptoms are judged by experiments, and the part is named whose replacement repairs a set-up."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from own_set_up import DATA, LOSS, MODEL, OwnSetUp
from torch import Tensor, nn

from cnntune.config.recipe import AugmentSection
from cnntune.findings import Finding
from cnntune.steps.sanity import check, outcome, references
from cnntune.steps.sanity.input_use import input_used
from cnntune.steps.sanity.labels import labels
from cnntune.steps.sanity.loss import loss as probed_loss
from cnntune.steps.sanity.modes import train_eval
from cnntune.steps.sanity.outputs import outputs
from cnntune.steps.sanity.overfit import overfit_tiny
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.substitution import OF_NETWORK, budget, likeliest
from cnntune.steps.sanity.symptom import OUTPUT, WEIGHTS, Symptom
from cnntune.steps.sanity.tiny import finite, overfit_tiny_batch

RETURN = "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
BYTES = DATA + "    x, val_x = x * 255, val_x * 255\n" + RETURN
CONVOLUTION = (
    "nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, num_classes))"
)
PLAIN = MODEL + f"return {CONVOLUTION}\n"
SCALES_ITS_PIXELS = MODEL + (
    f"return Changed({CONVOLUTION}, lambda layers, x: layers((x - 128) / 64))\n"
)
OVER_A_MILLION = MODEL + (
    "return Changed(linear(in_shape, num_classes), lambda layers, x: layers(x) / 1e6)\n"
)
SMALL_WEIGHTS = MODEL + (
    "sizes = [64] * 7 + [num_classes]\n"
    "    layers = [nn.Flatten()]\n"
    "    for before, after in zip(sizes, sizes[1:]):\n"
    "        layers += [nn.Linear(before, after), nn.ReLU()]\n"
    "        nn.init.normal_(layers[-2].weight, std=0.01)\n"
    "        nn.init.zeros_(layers[-2].bias)\n"
    "    return nn.Sequential(*layers[:-1])\n"
)
NEGATED_GRADIENTS = MODEL + (
    "def forward(layers, x):\n"
    "        x = layers(x)\n"
    "        if x.requires_grad:\n"
    "            x.register_hook(lambda gradient: -gradient)\n"
    "        return x\n"
    "    return Changed(linear(in_shape, num_classes), forward)\n"
)
CHECKPOINTED = MODEL + (
    "from torch.utils.checkpoint import checkpoint\n"
    "    def forward(layers, x):\n"
    "        x = layers[0](x) + layers[1].bias.sum()\n"
    "        if not torch.is_grad_enabled():\n"
    "            return layers[1:](x)\n"
    "        return checkpoint(layers[1:], x, use_reentrant=True)\n"
    "    return Changed(linear(in_shape, num_classes), forward)\n"
)
LOG_PROBABILITIES = (
    MODEL + "return nn.Sequential(linear(in_shape, num_classes), nn.LogSoftmax(dim=1))\n"
)
LOG_LIKELIHOOD_OF_LOGITS = LOSS + "return F.nll_loss(logits, targets)\n"
FROM_ONE = DATA + "    y, val_y = y + 1, val_y + 1\n" + RETURN
TWO_LABELS = (
    DATA
    + (
        "    val_x, val_y = val_x.clone(), val_y.clone()\n"
        "    val_x[7], val_y[7] = x[3], (y[3] + 1) % 10\n"
    )
    + RETURN
)


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> OwnSetUp:
    return OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)


def alarms(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.rule, f.severity) for f in findings if f.severity in ("fail", "warn")]


def bytes_for(own: OwnSetUp, model: str) -> list[Finding]:
    """What is found where pixels from 0 to 255 are fed to a network as they are."""
    path = own.write(model, data=BYTES)
    path.write_text(path.read_text().replace("[model]", "normalize = false\n[model]"))
    subject = own.opened()
    return list(check(subject.recipe, subject.data, subject.device))


@pytest.mark.slow
def test_a_network_that_scales_its_own_pixels_is_no_fault(own: OwnSetUp) -> None:
    found = bytes_for(own, SCALES_ITS_PIXELS)
    assert alarms(found) == []
    assert "networks expect 0 and 1" in next(f.evidence for f in found if f.rule == "inputs")


@pytest.mark.slow
def test_bytes_for_pixels_are_an_alarm_with_the_accuracy_on_scaled_ones(own: OwnSetUp) -> None:
    (text,) = (f.evidence for f in bytes_for(own, PLAIN) if f.rule == "inputs")
    assert "networks expect 0 and 1" in text


def test_a_symptom_fails_where_the_network_cannot_memorise(own: OwnSetUp) -> None:
    symptom = Symptom("inputs", "warn", "odd")
    failed = Finding("overfit-tiny", "fail", "cannot")
    assert outcome.judged(own.subject(), [symptom, failed])[0] == Finding("inputs", "fail", "odd")


def test_a_symptom_beside_a_cause_that_is_sure_is_a_warning(own: OwnSetUp) -> None:
    rows = [Finding("loss", "fail", "sign"), Symptom("inputs", "warn", "odd")]
    rows.append(Finding("overfit-tiny", "fail", "cannot"))
    assert [f.severity for f in outcome.judged(own.subject(), rows)] == ["fail", "warn", "fail"]


def test_a_symptom_of_a_network_that_learns_is_a_remark(own: OwnSetUp) -> None:
    rows = [Symptom("input-used", "warn", "odd"), Finding("overfit-tiny", "ok", "")]
    rows.append(Finding("learns", "ok", ""))
    assert outcome.judged(own.subject(), rows)[0].severity == "info"


@pytest.mark.parametrize(
    ("model", "rule", "part"),
    [
        (OVER_A_MILLION, "outputs", "what follows your last layer"),
        (NEGATED_GRADIENTS, "gradient-flow", "your detached tensors and hooks"),
        (SMALL_WEIGHTS, "activations", "your initial weights"),
    ],
)
@pytest.mark.slow
def test_the_part_whose_replacement_memorises_is_named(
    own: OwnSetUp, model: str, rule: str, part: str
) -> None:
    subject = own.subject(model)
    found = overfit_tiny(subject, overfit_tiny_batch(subject))
    assert [(f.rule, f.severity) for f in found[:2]] == [("overfit-tiny", "fail"), (rule, "fail")]
    assert f"not with {part}" in found[1].evidence


@pytest.mark.slow
def test_a_loss_that_falls_without_end_is_the_only_failure_but_of_learning(own: OwnSetUp) -> None:
    found = own.findings(loss=LOG_LIKELIHOOD_OF_LOGITS)
    assert {rule for rule, severity in alarms(found) if severity == "fail"} <= {
        "loss",
        "overfit-tiny",
        "learns",
    }


def test_logits_that_are_not_finite_differ_by_no_mode(own: OwnSetUp) -> None:
    subject = own.subject()
    overfit = overfit_tiny_batch(subject)
    next(overfit.model.parameters()).data.fill_(float("nan"))
    (found,) = train_eval(subject, overfit)
    assert found.severity == "info"


def test_labels_from_one_are_said_to_be_so(own: OwnSetUp) -> None:
    (found,) = labels(own.subject(data=FROM_ONE))
    assert "labels run from 1 to 10" in found.evidence
    assert "subtract 1" in found.advice


def test_a_network_of_ten_outputs_for_labels_from_one_is_not_told_to_have_eleven(
    own: OwnSetUp,
) -> None:
    subject = own.subject(MODEL + "return linear(in_shape, 10)\n", data=FROM_ONE)
    (found,) = outputs(subject)
    assert found.advice == "labels run from 1 to 10: subtract 1 from each"


def test_a_network_whose_training_diverges_is_judged_by_finite_weights(own: OwnSetUp) -> None:
    subject = own.subject(loss=LOSS + "return (logits.exp().exp()).mean() * 1e30\n")
    overfit = overfit_tiny_batch(subject)
    assert not overfit.reached
    assert finite(overfit.model)


def test_the_small_cnn_is_trained_once_for_the_same_images_and_augmentation(
    own: OwnSetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = own.subject()
    asked: list[float] = []

    def trained(_: Subject, train: tuple[Tensor, Tensor], *rest: Any) -> tuple[float, nn.Module]:
        asked.append(rest[-1])
        return 0.0, nn.Sequential(nn.Flatten(), nn.Linear(train[0][0].numel(), 10))

    monkeypatch.setattr(references, "_train_plain", trained)
    references.plain_cnn(subject, AugmentSection())
    references.best_reference(subject)
    assert asked == [3e-3, 3e-2]  # each of the learning rates
    references.plain_cnn(subject, AugmentSection(flip=True))
    assert len(asked) == 4


def test_no_replacement_is_tried_after_the_seconds_for_them(own: OwnSetUp) -> None:
    subject = own.subject(OVER_A_MILLION)
    budget(subject).left = 0.0
    found = overfit_tiny(subject, overfit_tiny_batch(subject))
    assert [f.rule for f in found] == ["overfit-tiny"]


def test_a_part_that_shows_a_symptom_is_replaced_first(own: OwnSetUp) -> None:
    subject = own.subject()
    subject.suspects.add(WEIGHTS)
    assert [swap.part for swap in likeliest(subject, OF_NETWORK)][:2] == [WEIGHTS, OUTPUT]


def test_an_image_with_one_label_for_training_and_another_for_validation_is_named(
    own: OwnSetUp,
) -> None:
    (found,) = labels(own.subject(data=TWO_LABELS))
    assert found.severity == "warn"
    assert found.evidence == (
        "0.5% of the validation images are training images with another label:"
        " validation image 7 = training image 3"
    )


def test_log_likelihood_of_log_probabilities_is_the_cross_entropy(own: OwnSetUp) -> None:
    own.write(LOG_PROBABILITIES, loss=LOG_LIKELIHOOD_OF_LOGITS)
    (found,) = probed_loss(own.opened())
    assert found.severity == "ok"
    assert found.measured == pytest.approx(math.log(10))


def test_a_network_with_reentrant_checkpoints_is_examined(own: OwnSetUp) -> None:
    subject = own.subject(CHECKPOINTED)
    (found,) = input_used(subject, overfit_tiny_batch(subject))
    assert found.severity == "ok"
