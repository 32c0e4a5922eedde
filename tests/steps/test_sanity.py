"""Steps 1 and 2: a healthy set-up passes, and each way to break one is named."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import Workflow
from own_set_up import CPU, HEALTHY, LOSS, MODEL, OwnSetUp

from cnntune.errors import UserCodeError
from cnntune.findings import Finding, failed
from cnntune.steps.sanity import check
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe

LOG_10 = 2.302585  # digits have ten classes

PROBABILITIES = MODEL + "return nn.Sequential(linear(in_shape, num_classes), nn.Softmax(1))\n"
FROZEN = MODEL + "return linear(in_shape, num_classes).requires_grad_(False)\n"
DETACHED = MODEL + (
    "return Changed(linear(in_shape, num_classes), lambda layers, x: layers(x).detach())\n"
)
BLIND = MODEL + (
    "return Changed(linear(in_shape, num_classes), lambda layers, x: layers(torch.zeros_like(x)))\n"
)
HOT_HEAD = MODEL + (
    "net = linear(in_shape, num_classes)\n    net[1].weight.data *= 30\n    return net\n"
)
NAN_WEIGHT = MODEL + (
    "net = linear(in_shape, num_classes)\n"
    "    net[1].weight.data[0, 0] = torch.nan\n"
    "    return net\n"
)
FIVE_LOGITS = MODEL + "return linear(in_shape, 5)\n"

SUMMED = LOSS + 'return F.cross_entropy(logits, targets, reduction="sum")\n'
NEGATED = LOSS + "return -F.cross_entropy(logits, targets)\n"
CONSTANT = LOSS + "return 2.3026 + 0 * logits.sum()\n"
WITHOUT_GRAPH = LOSS + "return torch.tensor(2.3026)\n"
OTHER_TARGETS = LOSS + "return F.cross_entropy(logits, targets.roll(1))\n"
OWN_GUESSES = LOSS + "return F.cross_entropy(logits, logits.argmax(1))\n"
FOCAL = LOSS + (
    'ce = F.cross_entropy(logits, targets, reduction="none")\n'
    "    return ((1 - torch.exp(-ce)) ** 2 * ce).mean()\n"
)

Findings = dict[str, Finding]


@pytest.fixture
def findings_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Findings]:
    """Check 300 digits with own code for the model and perhaps the loss."""
    own = OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)
    return lambda model=HEALTHY, loss="": {f.rule: f for f in own.findings(model, loss)}


def failing(findings: Findings) -> set[str]:
    return {rule for rule, finding in findings.items() if finding.severity == "fail"}


def test_digits_and_a_small_network_are_healthy(workflow: Workflow) -> None:
    findings = workflow.document("sanity")["findings"]
    assert {finding["severity"] for finding in findings} <= {"ok", "info"}
    by_rule = {finding["rule"]: finding for finding in findings}
    assert by_rule["initial-loss"]["severity"] == by_rule["overfit-tiny"]["severity"] == "ok"
    initial = by_rule["initial-loss"]
    assert initial["expected"] == pytest.approx(LOG_10)
    assert initial["measured"] == pytest.approx(LOG_10, abs=0.3)
    assert "log(10) = 2.303" in initial["evidence"]


@pytest.mark.slow
def test_a_small_network_that_regularises_hard_is_healthy_too() -> None:
    hard = ["model.dropout=0.8", "train.weight_decay=0.1", "train.label_smoothing=0.3"]
    recipe = load_recipe("digits", ["data.size=300", "model.width=8", "augment.flip=true", *hard])
    assert not failed(check(recipe, load_data(recipe, CPU), CPU))


def test_a_network_of_ones_own_is_healthy(findings_of: Callable[..., Findings]) -> None:
    findings = findings_of()
    assert not failing(findings)
    assert findings["overfit-tiny"].severity == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["1e-3", "1.0"])
def test_a_rate_that_nobody_has_tuned_is_no_failure(rate: str) -> None:
    recipe = load_recipe("digits", ["data.size=300", "model.width=8", f"train.lr={rate}"])
    assert not failed(check(recipe, load_data(recipe, CPU), CPU))


# Each fault, the rule of the contract that names its cause, and a word that the rule has to say.
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "probabilities": (PROBABILITIES, "", "outputs", "softmax"),
    "five logits for ten classes": (FIVE_LOGITS, "", "outputs", "10"),
    "a NaN among the weights": (NAN_WEIGHT, "", "outputs", "NaN"),
    "frozen": (FROZEN, "", "trainable-parameters", "650"),  # 64 * 10 weights and 10 biases
    "detached": (DETACHED, "", "gradient-flow", "detach"),
    "blind": (BLIND, "", "input-used", "blank"),
    "summed loss": (HEALTHY, SUMMED, "loss", "summed"),
    "negated loss": (HEALTHY, NEGATED, "loss", "sign"),
    "constant loss": (HEALTHY, CONSTANT, "loss", "constant"),
    "loss without a graph": (HEALTHY, WITHOUT_GRAPH, "loss", "gradient"),
    "loss of its own guesses": (HEALTHY, OWN_GUESSES, "loss", "ignores its targets"),
    "labels of other images": (HEALTHY, OTHER_TARGETS, "overfit-tiny", "labels"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_under_the_rule_that_names_its_cause(
    findings_of: Callable[..., Findings], fault: str
) -> None:
    model, loss, rule, word = FAULTS[fault]
    findings = findings_of(model, loss)
    assert rule in failing(findings)
    assert word in findings[rule].evidence + findings[rule].advice
    json.dumps([finding.as_json() for finding in findings.values()], allow_nan=False)


@pytest.mark.slow
def test_probabilities_cannot_be_fitted(findings_of: Callable[..., Findings]) -> None:
    # Even a probability of 1 on the label leaves log(e + 9) - 1 = 1.461.
    finding = findings_of(PROBABILITIES)["overfit-tiny"]
    assert finding.severity == "fail"
    assert finding.measured is not None
    assert finding.measured > 1.46


@pytest.mark.parametrize("model", [NAN_WEIGHT, FIVE_LOGITS, FROZEN], ids=["nan", "five", "frozen"])
def test_where_no_step_can_be_trained_the_other_checks_are_left_out(
    findings_of: Callable[..., Findings], model: str
) -> None:
    assert "overfit-tiny" not in findings_of(model)


def test_another_loss_than_cross_entropy_is_no_failure(
    findings_of: Callable[..., Findings],
) -> None:
    findings = findings_of(loss=FOCAL)
    assert not failing(findings)
    assert findings["overfit-tiny"].severity == "ok"


def test_a_hot_head_warns_where_few_images_do_not_show_what_it_costs(
    findings_of: Callable[..., Findings],
) -> None:
    findings = findings_of(HOT_HEAD)
    assert findings["initial-loss"].severity == "warn"
    assert findings["initial-loss"].measured is not None
    assert findings["initial-loss"].measured > 2 * LOG_10
    assert "scale the last layer" in findings["initial-loss"].advice
    assert findings["learns"].severity == "info"
    assert not failing(findings)


def test_an_error_in_own_code_points_at_own_code(findings_of: Callable[..., Findings]) -> None:
    raising = MODEL + "return Changed(linear(in_shape, num_classes), lambda layers, x: x.nothing)\n"
    with pytest.raises(UserCodeError) as caught:
        findings_of(raising)
    assert "AttributeError" in caught.value.lines[0]
    assert all("own_" in line for line in caught.value.lines[1:])


@pytest.mark.slow
def test_checks_leave_the_random_state_alone_and_repeat_to_the_digit() -> None:
    recipe = load_recipe("digits", ["data.size=300", "model.width=8", "model.dropout=0.5"])
    data = load_data(recipe, CPU)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = list(check(recipe, data, CPU)), list(check(recipe, data, CPU))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
