"""On an accelerator nothing within an epoch waits for the device, and no operation mixes devices.

No accelerator is needed: `helpers/pretend_device.py` counts what one would wait for.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from augmentations import AUGMENTATIONS

from cnntune.config.recipe import AugmentSection

HELPERS = Path(__file__).parents[1] / "helpers"
ROOT = HELPERS.parents[1]
OPTIMIZERS = ("sgd", "adam", "adamw")
pytestmark = pytest.mark.slow  # without values a step takes a tenth of a second

EPOCHS = [f"epoch: {name}" for name in (*AUGMENTATIONS, *OPTIMIZERS)]
LOOKS = 3  # per epoch of three steps: the loss of the first and the last one, the norm's mean
SCORES = 4  # per epoch: loss and accuracy of the training and of the validation set


def waited(steps: str) -> dict[str, Any]:
    """What each of the steps waited for, and its error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HELPERS / "pretend_steps.py"), steps],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}"},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    return waited("training")


def times(step: dict[str, Any], what: str) -> int:
    return sum(step["found"].get(what, {}).values())


@pytest.mark.parametrize("name", EPOCHS)
def test_within_an_epoch_no_copy_blocks_and_only_the_loss_is_read(
    name: str, steps: dict[str, Any]
) -> None:
    step = steps[name]
    assert set(step["found"]) == {"read"}, step["found"]
    assert times(step, "read") == LOOKS


def test_every_key_is_in_one_of_the_epochs() -> None:
    keys = {key for settings in AUGMENTATIONS.values() for key in settings}
    assert keys | {"resized_crop_ratio"} == set(AugmentSection.model_fields)


def test_a_run_reads_its_scores_once_per_epoch(steps: dict[str, Any]) -> None:
    assert set(steps["run"]["found"]) == {"read"}, steps["run"]["found"]
    assert times(steps["run"], "read") == 2 * (LOOKS + SCORES)


def assert_on_one_device(steps: dict[str, Any]) -> None:
    assert {name: step["error"] for name, step in steps.items() if step["error"]} == {}
    sent = {name: step["found"].get("float64 on the device") for name, step in steps.items()}
    assert {name: places for name, places in sent.items() if places} == {}


def test_training_mixes_no_devices_and_sends_no_float64(steps: dict[str, Any]) -> None:
    assert_on_one_device(steps)


def test_no_rule_of_sanity_mixes_devices_or_sends_float64() -> None:
    assert_on_one_device(waited("checks"))
