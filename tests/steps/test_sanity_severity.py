"""What is a failure, what a remark: by experiments on the network, the loss and the images."""

import re
from pathlib import Path

import pytest
from own_set_up import BEGIN, DATA, HEALTHY, LOSS, MODEL, OwnSetUp

from cnntune.findings import Finding
from cnntune.steps.sanity.gradients import gradient_flow
from cnntune.steps.sanity.loss import loss
from cnntune.steps.sanity.network import activations
from cnntune.steps.sanity.outputs import first_step, outputs

RETURN = "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
DIGITS = DATA + RETURN
RARE = DATA + "    kept = (y < 5) | (torch.arange(len(y)) % 5 == 0)\n    x, y = x[kept], y[kept]\n"
MAXIMA = MODEL + (
    "class Net(nn.Module):\n"
    "        def __init__(self):\n"
    "            super().__init__()\n"
    "            self.conv, self.head = nn.Conv2d(1, 16, 3), nn.Linear(16, num_classes)\n"
    "        def forward(self, x):\n"
    "            x = F.relu(self.conv(x))\n"
    "            x = x.amax((2, 3))\n"
    "            return self.head(x)\n"
    "    return Net()\n"
)
MAXIMUM_LINE = (BEGIN + MAXIMA).splitlines().index("            x = x.amax((2, 3))") + 1
LINEAR = MODEL + (
    "return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, num_classes))\n"
)
# A bright patch at one of ten places: its class is where it is. No place is near an edge, where
# fewer windows of a convolution overlap it.
PLACES = DATA + (
    "    def drawn(count):\n"
    "        labels = torch.arange(count) % 10\n"
    "        images = torch.randn(count, 1, 12, 12) / 4\n"
    "        for image, k in zip(images, labels.tolist()):\n"
    "            image[0, k // 5 * 4 + 3:k // 5 * 4 + 5, k % 5 + 3:k % 5 + 5] += 1\n"
    "        return images, labels\n"
    "    return TensorDataset(*drawn(600)), TensorDataset(*drawn(300))\n"
)
# Ten patterns, half of the images as their negatives: the mean of each class is grey.
NEGATIVES = DATA + (
    "    patterns = torch.randn(10, 1, 8, 8)\n"
    "    def drawn(count):\n"
    "        labels = torch.arange(count) % 10\n"
    "        signs = 1 - 2 * torch.randint(2, (count, 1, 1, 1))\n"
    "        return signs * patterns[labels] + torch.randn(count, 1, 8, 8) / 4, labels\n"
    "    return TensorDataset(*drawn(600)), TensorDataset(*drawn(300))\n"
)
SHUFFLED = MODEL + (
    "return Changed(linear(in_shape, num_classes),\n"
    "                   lambda layers, x: layers(x)[torch.randperm(len(x))])\n"
)
HALVES = MODEL + (
    "class Net(nn.Module):\n"
    "        def __init__(self):\n"
    "            super().__init__()\n"
    "            self.first, self.extra = nn.Linear(64, 64), nn.Linear(64, 64)\n"
    "            self.head = nn.Linear(64, num_classes)\n"
    "        def forward(self, x):\n"
    "            x = self.first(x.flatten(1))\n"
    "            dropped = self.extra(x)\n"
    "            return self.head(RESULT)\n"
    "    return Net()\n"
)
COSTS = LOSS + "costs = F.cross_entropy(logits, targets, reduction='none')\n"
FAMILIES = ("resnet18", "mobilenet_v3_small", "convnext_tiny")


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> OwnSetUp:
    return OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)


def of(findings: list[Finding], rule: str, severity: str = "fail") -> list[str]:
    return [f.evidence for f in findings if (f.rule, f.severity) == (rule, severity)]


@pytest.mark.slow
def test_global_maxima_after_one_layer_fail_with_the_line_that_takes_them(own: OwnSetUp) -> None:
    found = own.findings(MAXIMA, data=PLACES)
    assert of(found, "learns")
    (text,) = of(found, "signal")
    assert f"before amax in the forward of Net, {own.module}.py:{MAXIMUM_LINE}," in text


@pytest.mark.slow
def test_a_linear_network_is_a_warning_where_a_linear_map_does(own: OwnSetUp) -> None:
    found = own.findings(LINEAR, data=DIGITS)
    assert not of(found, "activations")
    assert "single linear map" in of(found, "activations", "warn")[0]


@pytest.mark.slow
def test_a_shuffled_batch_is_named_once(own: OwnSetUp) -> None:
    found = own.findings(SHUFFLED, data=DIGITS)
    assert of(found, "train-eval")
    assert not of(found, "signal")


@pytest.mark.parametrize(
    ("result", "severity"),
    [("x", "info"), ("x + dropped.detach()", "fail"), ("x + dropped", "ok")],
)
def test_a_dropped_result_is_a_remark_and_one_cut_off_a_failure(
    own: OwnSetUp, result: str, severity: str
) -> None:
    subject = own.subject(HALVES.replace("RESULT", result))
    found = gradient_flow(subject)
    assert [f.severity for f in found] == [severity]
    assert severity == "ok" or found[0].where == ("extra" if severity == "info" else "extra.weight")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("[5.0] * 5 + [1.0] * 5", True),  # as the counts of RARE
        ("[1.0] * 10", False),
        ("[1.0] * 5 + [5.0] * 5", False),  # inverse to the counts
    ],
)
def test_class_weights_must_not_rise_with_the_counts(
    own: OwnSetUp, weights: str, said: bool
) -> None:
    code = LOSS + f"return F.cross_entropy(logits, targets, torch.tensor({weights}))\n"
    found = loss(own.subject(loss=code, data=RARE + RETURN))
    assert ["class weights rise" in text for text in of(found, "loss", "warn")] == [True] * said


@pytest.mark.parametrize(("sign", "severity"), [("", "ok"), ("-", "warn")])
def test_the_hardest_half_may_be_mined_but_not_the_easiest(
    own: OwnSetUp, sign: str, severity: str
) -> None:
    mined = COSTS + f"    return {sign}({sign}costs).topk(len(costs) // 2 + 1).values.mean()\n"
    assert [f.severity for f in loss(own.subject(HEALTHY, mined))] == [severity]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_torchvision_families_start_without_a_finding(own: OwnSetUp, family: str) -> None:
    model = MODEL + (
        f"from torchvision.models import {family}\n"
        "    def forward(net, x):\n"
        "        return net(F.interpolate(x.expand(-1, 3, -1, -1), size=64))\n"
        f"    return Changed({family}(num_classes=num_classes), forward)\n"
    )
    subject = own.subject(model)
    found = [*outputs(subject), *activations(subject)]
    assert [f.evidence for f in found if f.severity in ("fail", "warn")] == []


COUNTED = LOSS + (
    "counts = torch.bincount(targets, minlength=logits.size(1)).float()\n"
    "    weights = 1 / counts\n"
    "    return F.cross_entropy(logits, targets, weight=weights / weights.sum())\n"
)


def test_a_loss_that_an_absent_class_makes_nan_fails(own: OwnSetUp) -> None:
    path = own.write(loss=COUNTED)  # 180 training images of 10 classes, in batches of 8
    path.write_text(path.read_text() + "\nbatch_size = 8\n")
    (finding,) = (f for f in loss(own.opened()) if f.severity == "fail")
    assert finding.evidence == "is not finite on 40 of 40 batches of training labels"


def test_a_loss_of_enough_images_may_need_more_than_a_few(own: OwnSetUp) -> None:
    normal = "    return F.cross_entropy(logits, targets) / float(len(targets) > 8)\n"
    subject = own.subject(loss=LOSS.rstrip(" ") + normal)
    assert first_step(subject) is None


def test_a_loss_without_a_value_fails_even_where_no_rule_names_the_cause(own: OwnSetUp) -> None:
    never = "    return F.cross_entropy(logits, targets) / float(logits.std() > 1e3)\n"
    found = own.findings(loss=LOSS.rstrip(" ") + never)
    assert of(found, "loss")
