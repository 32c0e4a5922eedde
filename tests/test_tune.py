"""Step 7: the loop stops for a reason, resumes, and finds its way out of a planted problem."""

import json
from pathlib import Path

import pytest
from commands import Outcome, call

from cnntune.tune import Budget

SMALL = """
name = "small"
[data]
name = "digits"
size = 240
[model]
width = 4
[train]
batch_size = 32
epochs = 4
[search]
epochs = 2
[space]
train.lr = { log = [1e-2, 3e-1] }
"""


def tuned(folder: Path, text: str, *words: str) -> Outcome:
    (folder / "small.toml").write_text(text)
    return call("tune", "small.toml", "--json", *words, cwd=folder)


def test_a_budget_of_trials_is_shared_among_the_rounds() -> None:
    budget = Budget(trials=50)
    assert budget.round_trials(0.4, 0) == 20
    assert budget.round_trials(0.2, 20) == 10
    assert budget.round_trials(0.2, 44) == 6  # what is left
    assert budget.round_trials(0.2, 47) == 0  # three trials are no round


def test_a_budget_of_time_ends_when_it_is_over() -> None:
    assert Budget(seconds=60.0).round_trials(0.2, 1000) == 10
    assert Budget(seconds=60.0, start=-1e9).round_trials(0.2, 0) == 0


@pytest.mark.slow
def test_the_loop_ends_with_a_reason_and_the_command_that_trains_the_winner(tmp_path: Path) -> None:
    outcome = tuned(tmp_path, SMALL, "--budget", "12")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    rules = [finding["rule"] for finding in document["findings"]]
    assert "stopped" in rules
    assert {"winner", "tie"} & set(rules)
    assert (tmp_path / document["winner"]).is_file()
    assert f"cnntune train {document['winner']}" in outcome.err
    trials = list((tmp_path / "runs/small").rglob("trial-[0-9][0-9][0-9][0-9]/summary.json"))
    assert len(trials) <= 12
    again = tuned(tmp_path, SMALL, "--budget", "12")
    assert again.document["winner"] == document["winner"]
    assert [one["val_accs"] for one in again.document["candidates"]] == [
        one["val_accs"] for one in document["candidates"]
    ]


SHAPES = """
name = "small"
[data]
name = "shapes"
size = 500
[model]
name = "small-cnn"
width = {width}
depth = 2
dropout = 0.0
[train]
optimizer = "adamw"
batch_size = 32
weight_decay = {weight_decay}
epochs = {epochs}
[search]
epochs = {epochs}
[space]
train.lr = {{ log = [{low}, {high}] }}
"""


def said(outcome: Outcome) -> str:
    assert outcome.code == 0, outcome.err
    return "\n".join(finding["evidence"] for finding in outcome.document["findings"])


def winners_recipe(folder: Path, outcome: Outcome) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(
        (folder / outcome.document["winner"]).read_text()
    )
    return found


@pytest.mark.slow
def test_the_loop_gives_a_network_that_is_too_small_more_to_work_with(tmp_path: Path) -> None:
    text = SHAPES.format(width=2, weight_decay=0.01, epochs=6, low=1e-3, high=1e-2)
    outcome = tuned(tmp_path, text, "--budget", "16")
    assert "epochs: 6 became 12" in said(outcome) or "model.width: 2 became" in said(outcome)
    assert winners_recipe(tmp_path, outcome)["train"]["epochs"] > 6


@pytest.mark.slow
def test_the_loop_lowers_a_range_of_rates_that_is_too_high(tmp_path: Path) -> None:
    text = SHAPES.format(width=8, weight_decay=0.01, epochs=6, low=0.3, high=3.0)
    outcome = tuned(tmp_path, text, "--budget", "16")
    assert outcome.code == 0, outcome.err
    assert winners_recipe(tmp_path, outcome)["train"]["lr"] < 0.1


# A fifth of the training labels is wrong: learning them by heart costs accuracy.
MEMORISED = """
name = "small"
[data]
name = "shapes"
size = 1000
classes = ["circle", "square", "star", "ring"]
val_fraction = 0.5
test_fraction = 0.05
label_noise = 0.2
[model]
name = "small-cnn"
width = 16
depth = 3
dropout = 0.0
[train]
optimizer = "adamw"
batch_size = 32
weight_decay = 0.0
epochs = 20
[search]
epochs = 20
[space]
train.lr = { log = [2e-3, 2e-2] }
"""


@pytest.mark.slow
def test_the_loop_regularises_a_network_that_learns_by_heart(tmp_path: Path) -> None:
    outcome = tuned(tmp_path, MEMORISED, "--budget", "12")
    assert "train.label_smoothing: 0.0 became 0 ... 0.2: the best curves overfit" in said(outcome)
    winner = winners_recipe(tmp_path, outcome)
    assert winner["model"]["dropout"] > 0
    assert winner["train"]["label_smoothing"] > 0
    assert winner["train"]["weight_decay"] > 0
    unregularised = [
        json.loads(path.read_text())["val_acc"]
        for path in (tmp_path / "runs/small").glob("trial-*/summary.json")
    ]
    assert outcome.document["candidates"][0]["mean"] > max(unregularised)


def test_a_wrong_budget_is_a_line_that_names_the_option(tmp_path: Path) -> None:
    outcome = call("tune", "digits", "--budget", "soon", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith("--budget: must be a number of trials, or a time")
    assert "got 'soon'" in outcome.err
