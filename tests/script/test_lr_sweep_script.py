"""`lr-sweep -- COMMAND`: learning rates in the loop of real scripts, in real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts import PACKAGE, SCRIPTS
from test_launch import processes_with

from cnntune.script.sweep import Asked, Tried
from cnntune.steps.sweep_script import as_curves, has_other_data


def swept(script: Path, method: str = "", cwd: Path = SCRIPTS) -> tuple[int, dict[str, Any]]:
    run = subprocess.run(
        [sys.executable, "-m", "cnntune", "lr-sweep", "--json", "--", sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(SCRIPTS)]),
            "CNNTUNE_METHOD": method,
        },
    )
    assert "Traceback" not in run.stderr
    return run.returncode, json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "rewind", "rerun"])
def test_each_method_finds_a_learning_rate_from_the_same_weights(method: str) -> None:
    code, document = swept(SCRIPTS / "sound" / "plain.py", "" if method == "fork" else method)
    assert (code, document["method"], document["same_weights"]) == (0, method, True)
    assert 0.01 <= document["lr"] <= 0.3
    assert {c["verdict"] for c in document["curves"] if c["lr"] == 1e-5} == {"flat"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "reason"),
    [("gan", "as in a GAN"), ("reinforce", "reinforcement"), ("ppo", "reinforcement")],
)
def test_losses_that_measure_no_progress_have_curves_and_no_verdict(
    script: str, reason: str
) -> None:
    code, document = swept(SCRIPTS / "sound" / f"{script}.py")
    assert (code, document["lr"]) == (0, None)
    assert {c["verdict"] for c in document["curves"]} == {None}
    assert reason in document["findings"][0]["evidence"]


@pytest.mark.slow
def test_nothing_is_saved_and_nothing_is_left_running(tmp_path: Path) -> None:
    script = tmp_path / "own_saving.py"
    text = (SCRIPTS / "sound" / "plain.py").read_text()
    text = text.replace("optimizer.step()", "optimizer.step(); open('log.txt', 'a').write('x')")
    script.write_text(text + "\ntorch.save(model.state_dict(), 'best.pt')\n")
    code, _ = swept(script, cwd=tmp_path)
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["own_saving.py"]
    assert processes_with("own_saving.py") == []


def tried(losses: list[float], end: str = "done", data: int = 0) -> Tried:
    steps = [[index + data] for index in range(len(losses))]
    nothing: list[list[int]] = [[] for _ in losses]
    return Tried(Asked(0.1, 0, 100), losses, end, batches=nothing, inputs=steps, draws=nothing)


def test_a_script_that_gives_a_learning_rate_up_has_diverged_there() -> None:
    gave_up, whole, slow = as_curves(
        [tried([2.0] * 5, "error: x"), tried([2.0] * 30), tried([2.0] * 20, "time")]
    )
    assert len(gave_up.losses) == 6
    assert gave_up.last == float("inf")
    assert len(whole.losses) == len(slow.losses) == 20


def test_other_inputs_at_most_steps_are_other_data() -> None:
    assert has_other_data(tried([1.0] * 20), tried([1.0] * 20, data=1000))
    assert not has_other_data(tried([1.0] * 20), tried([1.0] * 20))


@pytest.mark.parametrize("verb", ["sanity", "lr-sweep"])
def test_a_script_in_place_of_a_recipe_is_told_how(verb: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "cnntune", verb, "train.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert run.returncode == 2
    assert f"cnntune {verb} -- python train.py" in run.stderr
