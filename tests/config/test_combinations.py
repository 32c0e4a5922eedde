"""Keys that are valid alone and cannot be combined, in flat settings as in `config.json`."""

import subprocess
import sys
from typing import Any

import pytest

from cnntune.config.combinations import conflicts
from cnntune.config.recipe import Recipe, flatten

FIVE_EPOCHS = {"train.epochs": 5, "train.schedule": "cosine"}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({**FIVE_EPOCHS, "train.warmup_epochs": 5.0}, "train.warmup_epochs"),
        ({"train.schedule": "one-cycle", "train.warmup_epochs": 0.5}, "train.warmup_epochs"),
        ({"train.loss": "mine:loss", "train.label_smoothing": 0.1}, "train.label_smoothing"),
        ({"train.freeze": "backbone", "model.weights": ""}, "train.freeze"),
        ({"train.freeze": "none", "train.unfreeze_every": 1}, "train.unfreeze_every"),
        ({"test.scales": []}, "test.scales"),
    ],
)
def test_keys_that_do_not_go_together_are_a_conflict_of_one_of_them(
    settings: dict[str, Any], key: str
) -> None:
    ((found, message),) = conflicts(settings)
    assert found == key
    assert message.startswith("must ")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        flatten(Recipe().as_values()),
        {**FIVE_EPOCHS, "train.warmup_epochs": 4.5},
        {"train.warmup_epochs": 5.0},  # of unknown many epochs
        {"train.warmup_epochs": "five", "train.epochs": 5},
        {"train.freeze": "backbone"},  # an older config.json, without model.weights
        {"train.freeze": "backbone", "model.weights": "best.pt", "train.unfreeze_every": 1},
    ],
)
def test_what_goes_together_or_is_not_known_is_no_conflict(settings: dict[str, Any]) -> None:
    assert conflicts(settings) == []


def test_who_only_asks_for_conflicts_loads_no_pydantic() -> None:
    code = "import sys, cnntune.diagnosis.advice; print('pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
