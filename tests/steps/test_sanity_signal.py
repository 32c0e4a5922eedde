"""Where the label gets lost: what a probe reads, and the operation that is named."""

import re
from pathlib import Path

import pytest
import torch
from own_set_up import BEGIN, DATA, LOSS, MODEL, OwnSetUp
from torch import nn

from cnntune.findings import Finding
from cnntune.steps.sanity.signal import readable
from cnntune.steps.sanity.where import Place, following

DIGITS = DATA + "    return TensorDataset(x, y), TensorDataset(val_x, val_y)\n"
LAYERS = MODEL + (
    "class Net(nn.Module):\n"
    "        def __init__(self):\n"
    "            super().__init__()\n"
    "            self.first, self.head = nn.Linear(64, 64), nn.Linear(64, num_classes)\n"
    "            self.norm, self.narrow = nn.GroupNorm(64, 64), nn.Linear(64, 1)\n"
    "        def forward(self, x):\n"
    "            x = F.relu(self.first(x.flatten(1)))\n"
    "            x = CHANGE\n"
    "            return self.head(x)\n"
    "    return Net()\n"
)
CHANGED_LINE = (BEGIN + LAYERS).splitlines().index("            x = CHANGE") + 1
# What the second half of forward does, and the operation and module that are named.
LOSSES = {
    "groups of a single value": ("self.norm(x)", "group_norm in norm (GroupNorm)"),
    "a mean taken off along the wrong axis": (
        "(x.unsqueeze(2) - x.unsqueeze(2).mean(2, keepdim=True)).squeeze(2)",
        "sub in the forward of Net",
    ),
    "a single unit": ("self.narrow(x).expand(-1, 64)", "linear in narrow (Linear)"),
}


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> OwnSetUp:
    return OwnSetUp(tmp_path, re.sub(r"\W", "_", request.node.name), monkeypatch)


def signal_of(findings: list[Finding]) -> Finding:
    return next(finding for finding in findings if finding.rule == "signal")


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_the_operation_that_loses_the_label_is_named_with_its_line(
    own: OwnSetUp, name: str
) -> None:
    change, place = LOSSES[name]
    found = signal_of(own.findings(LAYERS.replace("CHANGE", change), data=DIGITS))
    assert found.severity == "fail"
    assert f"before {place}, {own.module}.py:{CHANGED_LINE}," in found.evidence


def test_layers_that_pass_the_label_on_are_left_alone(own: OwnSetUp) -> None:
    assert signal_of(own.findings(LAYERS.replace("CHANGE", "x"), data=DIGITS)).severity == "ok"


@pytest.mark.slow
def test_a_loss_at_fault_is_not_laid_on_a_layer(own: OwnSetUp) -> None:
    negated = LOSS + "return -F.cross_entropy(logits, targets)\n"
    found = signal_of(own.findings(LAYERS.replace("CHANGE", "x"), negated, DIGITS))
    assert found.severity in ("ok", "info")


def test_a_probe_reads_what_is_there_on_images_that_it_was_not_fitted_to() -> None:
    labels = torch.arange(200) % 4
    noise = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    marked = noise.clone()
    marked[:, :4] += 10 * nn.functional.one_hot(labels, 4)
    assert readable(marked, labels, 4) == 1.0
    assert readable(noise, labels, 4) < 0.4  # chance is 0.25, with a standard error of 0.04
    assert readable(torch.zeros(200, 3), labels, 4) == 0.25
    assert readable(torch.full((200, 3), torch.nan), labels, 4) == 0.0


def test_places_are_operations_with_their_module() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    seen: list[Place] = []
    images = torch.ones(5, 2, 2)
    with following(net, 5, lambda place, _: seen.append(place)):
        net(images)
    assert [(p.op, p.module, p.kind) for p in seen] == [
        ("flatten", "0", "Flatten"),
        ("linear", "1", "Linear"),
        ("relu", "2", "ReLU"),
    ]
