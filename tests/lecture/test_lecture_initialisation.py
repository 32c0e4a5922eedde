"""CS231n's experiment: six layers of 4096 units with too small, too large and good weights."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cnntune.findings import Finding
from cnntune.steps.sanity.network import activations
from cnntune.steps.sanity.subject import Subject
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe

CPU = torch.device("cpu")
Verdict = Callable[[float, str], Finding]
MODULE = """
from torch import nn

def build(*, num_classes, in_shape, std: float, activation: str = "relu"):
    layers, width = [nn.Flatten()], in_shape[0] * in_shape[1] * in_shape[2]
    for _ in range(6):
        linear = nn.Linear(width, 4096, bias=False)
        nn.init.normal_(linear.weight, std=std * (8 if width == 64 else 1))
        layers += [linear, nn.ReLU() if activation == "relu" else nn.Tanh()]
        width = 4096
    return nn.Sequential(*layers, nn.Linear(4096, num_classes))
"""  # the first layer has 64 inputs instead of 4096, so its weights are sqrt(64) = 8 times larger


@pytest.fixture
def verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verdict:
    (tmp_path / "lecture_init.py").write_text(MODULE)
    (tmp_path / "lecture.toml").write_text('model.name = "lecture_init:build"\nmodel.std = 0.01\n')
    monkeypatch.chdir(tmp_path)

    def check(std: float, activation: str) -> Finding:
        recipe = load_recipe("lecture.toml", [f"model.std={std}", f"model.activation={activation}"])
        return activations(Subject.of(recipe, load_data(recipe, CPU), CPU))[0]

    return check


@pytest.mark.slow
@pytest.mark.parametrize(
    ("std", "activation", "word"),
    [
        (0.01, "relu", "collapse"),
        (0.05, "relu", "explode"),
        (0.01, "tanh", "collapse"),
        (0.05, "tanh", "saturated"),
    ],
)
def test_weights_of_the_wrong_scale_are_found(
    verdict: Verdict, std: float, activation: str, word: str
) -> None:
    found = verdict(std, activation)
    assert found.severity in ("warn", "fail")
    assert word in found.evidence
    assert found.where


@pytest.mark.slow
def test_kaiming_weights_keep_the_scale(verdict: Verdict) -> None:
    assert verdict(math.sqrt(2 / 4096), "relu").severity == "ok"


@pytest.mark.slow
def test_xavier_weights_keep_the_scale_of_tanh(verdict: Verdict) -> None:
    assert verdict(math.sqrt(1 / 4096), "tanh").severity == "ok"
