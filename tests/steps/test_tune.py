"""Step 7: the loop keeps its budget, ends for a reason, and goes on where it was stopped."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome as Ended
from commands import call

from cnntune.config.recipe import Recipe
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.chance import Chance
from cnntune.runs.run import Epoch, Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary, summarise
from cnntune.steps.budget import Budget, refuse_too_short
from cnntune.steps.tune import Outcome, begun_with, tune, within_chance
from cnntune.steps.winner import Rival
from cnntune.study.ledger import Ledger
from cnntune.study.trial import Trial
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.capacity import Plan
from cnntune.workers.pool import Event, Job

SMALL = """
name = "small"
[data]
name = "digits"
size = 200
[model]
width = 2
[train]
batch_size = 64
epochs = 2
[search]
epochs = 1
[space]
train.lr = { log = [1e-2, 3e-1] }
"""


LEARNS = """
name = "small"
[data]
name = "digits"
size = 600
[model]
width = 8
[train]
batch_size = 16
epochs = 2
[search]
epochs = 2
[space]
train.lr = { log = [5e-2, 3e-1] }
"""


def tuned(folder: Path, text: str, *words: str) -> Ended:
    (folder / "small.toml").write_text(text)
    return call("tune", "small.toml", "--json", *words, cwd=folder)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "small.toml").write_text(SMALL)
    return load_recipe(str(tmp_path / "small.toml"))


def drawn_curves(
    next_job: Callable[[], Job | None],
    *,
    seconds: float = 1.0,
    learns: bool = True,
    learns_after: int = 0,
    **_: Any,
) -> Iterator[Event]:
    """`run_jobs` that writes what a run leaves behind and trains nothing: higher rates do better,
    by more than chance. Where none `learns`, rates above 0.01 guess among ten classes; runs of no
    more epochs than `learns_after` guess too, while their loss falls."""
    while job := next_job():
        yield Event(job)
        if job.check:
            yield Event(job, summary=Summary("complete"))
            continue
        run = Run(job.folder)
        for epoch in range(run.begin(job.recipe.as_values()) + 1, job.recipe.train.epochs + 1):
            acc = 0.5 + job.recipe.train.lr + 0.001 * job.recipe.seed
            loss = 1 / epoch
            if not learns and job.recipe.train.lr > 0.01:
                acc, loss = 0.1, 2.4
            if job.recipe.train.epochs <= learns_after:
                acc, loss = 0.1, 2.4 - 0.01 * epoch
            run.log(Epoch(epoch, job.recipe.train.lr, loss, acc, loss, acc, 1.0, seconds))
            yield Event(job, epoch=run.rows()[-1])
        summary = replace(summarise(run.rows()), val_images=10**6)
        if not learns or learns_after:
            summary = replace(summary, **CHANCE.as_json())
        run.finish(summary.to_json())
        yield Event(job, summary=summary)


CHANCE = Chance.of(list(range(10)) * 10)
PLAN = Plan(workers=1, precision="float32", image_bytes=0, stream=False, reasons=())


def loop(
    study: Study,
    recipe: Recipe,
    budget: Budget,
    *,
    events: int = 10**6,
    sweep: Callable[[Deadline], None] = lambda _: None,
    **curves: Any,
) -> Outcome:
    """Run the loop in this process, and stop it after so many events, as Ctrl-C does."""
    outcome = Outcome(study)
    with study.lock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnntune.study.coordinator.run_jobs", partial(drawn_curves, **curves))
        patch.setattr("cnntune.steps.refine.run_jobs", partial(drawn_curves, **curves))
        for phase in tune(outcome, recipe, budget, plan=PLAN, devices=("cpu",), sweep=sweep):
            for _ in phase.events:
                events -= 1
                if events == 0:
                    return outcome
    return outcome


def of_runs(count: int) -> Budget:
    return Budget.of(count, NEVER)


def of_time(seconds: float) -> Budget:
    return Budget.of(None, Deadline.after(seconds))


def runs_of(study: Study) -> list[str]:
    """Every run that was begun, trials and repeats, by its path in the study."""
    found = study.path.rglob("trial-*/config.json")
    return sorted(str(path.parent.relative_to(study.path)) for path in found)


def trials_of(study: Study, part: str = "") -> int:
    return len(Ledger.open(Study(study.path / part)).trials())


def rules(outcome: Outcome) -> set[str]:
    return {finding.rule for finding in outcome.findings}


def sizes(budget: Budget) -> list[int]:
    """The rounds that a budget is spent on."""
    found = [budget.round_trials(0.4, 0)]
    while size := budget.round_trials(0.2, sum(found)):
        found.append(size)
    return found


@pytest.mark.parametrize(
    ("runs", "rounds"),
    [
        (50, [16, 8, 8, 9]),  # 9 runs are kept for the repeats; the last round has what is left
        (13, [4]),
        (16, [7]),  # three trials more would be no round
        (22, [5, 4, 4]),
    ],
)
def test_a_budget_is_spent_on_rounds_to_the_last_run(runs: int, rounds: list[int]) -> None:
    assert sizes(of_runs(runs)) == rounds


def test_rounds_have_the_size_of_fifty_trials_until_their_time_is_over() -> None:
    assert of_time(60.0).round_trials(0.2, 1000) == 10
    assert of_time(0.0).round_trials(0.2, 0) == 0


@pytest.mark.parametrize("runs", ["1", "7", "12"])
def test_a_budget_that_is_too_small_is_refused_before_anything_runs(
    tmp_path: Path, runs: str
) -> None:
    outcome = tuned(tmp_path, SMALL, "--budget", runs)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "--budget: must be at least 13 training runs" in outcome.err
    assert f"(got {runs})" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_wrong_budget_is_a_line_that_names_the_option(tmp_path: Path) -> None:
    outcome = call("tune", "digits", "--budget", "soon", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith("--budget: must be a number of training runs, or a time")
    assert "got 'soon'" in outcome.err


def test_a_time_in_which_no_trial_fits_is_refused_with_one_that_would_do() -> None:
    refuse_too_short(30.0, Deadline.after(20.0), 15.0)
    refuse_too_short(None, NEVER, 15.0)
    with pytest.raises(StudyError, match=r"--budget: 30 s .* a trial takes at least 25 s"):
        refuse_too_short(30.0, Deadline.after(20.0), 25.0)
    with pytest.raises(StudyError, match=r"the checks took 30 s; use --budget 12\ds"):
        refuse_too_short(30.0, Deadline.after(0.0), None)


def test_the_loop_trains_as_many_runs_as_it_may_and_the_same_budget_adds_none(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    first = loop(study, recipe, of_runs(17))
    assert (trials_of(study), trials_of(study, "refine-1")) == (4, 4)
    assert len(runs_of(study)) == 17  # and 9 repeats
    assert "stopped" in rules(first)
    assert {"winner", "tie"} & rules(first)
    assert [candidate.asked for candidate in first.candidates] == [3, 3, 3]
    before = runs_of(study)
    again = loop(study, recipe, of_runs(17))
    assert runs_of(study) == before
    assert [one.as_json() for one in again.candidates] == [
        one.as_json() for one in first.candidates
    ]
    assert again.findings == first.findings


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five trials of round 0, one of round 1, and a second one that has begun: 5 * 3 + 4 + 2."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "small.toml").write_text(SMALL)
    recipe, study = load_recipe(str(folder / "small.toml")), Study(folder / "study")
    loop(study, recipe, of_runs(22), events=21)
    assert (trials_of(study), trials_of(study, "refine-1")) == (5, 2)
    statuses = [trial.status for trial in Ledger.open(Study(study.path / "refine-1")).trials()]
    assert statuses == ["complete", "running"]
    return study.path


@pytest.fixture
def study(stopped: Path, tmp_path: Path) -> Study:
    """A loop that was stopped in its second round."""
    return Study(shutil.copytree(stopped, tmp_path / "study"))


@pytest.mark.parametrize("budget", [of_runs(13), of_runs(17), of_runs(22)])
def test_a_loop_that_goes_on_with_another_budget_ends_and_never_exceeds_it(
    study: Study, recipe: Recipe, budget: Budget
) -> None:
    outcome = loop(study, recipe, budget)
    assert budget.runs is not None
    assert len(runs_of(study)) <= budget.runs
    assert trials_of(study) == 5
    assert trials_of(study, "refine-1") == {13: 2, 17: 3, 22: 4}.get(budget.runs)
    assert outcome.winner is not None
    assert all(
        trial.status == "complete"
        for part in ("", "refine-1")
        for trial in Ledger.open(Study(study.path / part)).trials()
    )


@pytest.mark.slow
def test_a_loop_that_goes_on_with_time_in_place_of_runs_ends(study: Study, recipe: Recipe) -> None:
    outcome = loop(study, recipe, of_time(0.0))
    (stopped,) = [finding for finding in outcome.findings if finding.rule == "stopped"]
    assert "round 1 has started 2 of 4 trials" in stopped.evidence
    assert outcome.winner is not None
    assert (trials_of(study), trials_of(study, "refine-1")) == (5, 2)
    (repeats,) = [finding for finding in outcome.findings if finding.rule == "repeats"]
    assert "9 of 9 repeats" in repeats.evidence
    loop(study, recipe, of_runs(22))  # and with more it goes on as if nothing had been
    assert trials_of(study, "refine-1") == 4


def test_a_larger_budget_goes_to_later_rounds(study: Study, recipe: Recipe) -> None:
    loop(study, recipe, of_runs(60), events=10)  # 2 trials and a bit more of round 1
    assert trials_of(study) == 5
    plan = json.loads((study.path / "refine-1/plan.json").read_text())
    assert plan["trials"] == 4


def test_the_reasons_of_all_rounds_are_told_also_after_a_stop(study: Study, recipe: Recipe) -> None:
    plan = json.loads((study.path / "refine-1/plan.json").read_text())
    assert plan["changes"]
    outcome = loop(study, recipe, of_runs(13))
    assert [change.evidence for change in outcome.changes] == plan["changes"]


def finding(outcome: Outcome, rule: str) -> Finding:
    (found,) = [one for one in outcome.findings if one.rule == rule]
    return found


def test_a_quarter_to_a_half_of_the_time_is_kept_for_repeats() -> None:
    budget = of_time(1000.0)
    for seconds, kept in [(0.0, 250), (400.0, 400), (900.0, 500)]:
        left = budget.keeping(seconds).rounds_until.seconds_left
        assert left == pytest.approx(1000 - kept, abs=50)
    left = budget.keeping(900.0, whole=True).rounds_until.seconds_left
    assert left == pytest.approx(100, abs=50)
    assert of_runs(13).keeping(900.0).rounds_until == NEVER


@pytest.mark.slow
def test_time_that_does_not_hold_a_trial_of_the_next_round_goes_to_repeats(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    first = loop(study, recipe, of_time(3000.0), seconds=1000.0)
    # Repeats take 1.25 * 9 * 1000 s + 5 s; half of 3000 s is left for a trial of 2 epochs.
    assert trials_of(study) == 20
    assert not (study.path / "refine-1").exists()
    assert len(runs_of(study)) == 20 + 9
    stopped = finding(first, "stopped")
    assert "a trial of 2 epochs takes about 2000 s" in stopped.evidence
    # 4 trials of 2000 s in three quarters of the time, 1.25 times that and 5 s.
    assert "--budget 13339s" in stopped.advice
    loop(study, recipe, of_time(13339.0), seconds=1000.0)
    assert trials_of(study, "refine-1") >= 4


@pytest.mark.slow
def test_repeats_that_an_earlier_call_left_come_before_a_further_round(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    loop(study, recipe, of_time(3000.0), seconds=1000.0, events=20 * 3 + 5)  # one repeat is begun
    assert len(runs_of(study)) < 20 + 9
    # The repeats take over 10000 s of 14000 s: 4 trials of 2000 s do not fit beside them, one does.
    again = loop(study, recipe, of_time(14000.0), seconds=1000.0)
    assert len(runs_of(study)) == 20 + 9
    assert not (study.path / "refine-1").exists()
    assert {"winner", "tie"} & rules(again)


def test_repeats_without_time_are_told_with_a_time_that_trains_them(
    study: Study, recipe: Recipe
) -> None:
    repeats = finding(loop(study, recipe, of_time(0.0)), "repeats")
    # Two of the candidates had one epoch of 1 s, the trial of round 1 two: at most 9 * 2 s.
    number = int(repeats.advice.partition("--budget ")[2].partition("s")[0])
    assert 1.25 * 9 + 5 <= number <= 1.25 * 18 + 6


def test_a_budget_without_a_further_round_names_the_least_that_has_one(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    loop(study, recipe, of_runs(13))
    outcome = loop(study, recipe, of_runs(13))
    assert finding(outcome, "stopped").evidence == "the budget is spent: 13 runs are trained"
    outcome = loop(study, recipe, of_runs(20))
    stopped = finding(outcome, "stopped")
    assert stopped.evidence == "7 of 20 runs are left, too few for a round and its repeats"
    assert stopped.advice == "--budget 26 continues"
    assert len(runs_of(study)) == 13
    loop(study, recipe, of_runs(26))
    assert trials_of(study, "refine-1") == 4


def swept(study: Study, recipe: Recipe, low: float, high: float) -> Callable[[Deadline], None]:
    """A sweep that finds these rates."""
    kept = {"lr": low, "range": [low, high], "recipe": recipe.as_values()}
    return lambda _: study.write("lr-sweep", kept)


def test_a_search_that_learned_nothing_is_followed_by_a_round_of_swept_rates(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    first = loop(study, recipe, of_time(1000.0), learns=False)  # the sweep comes to nothing
    assert finding(first, "nothing-learned").advice.startswith("the same command with")
    assert runs_of(study) == [f"trial-{number:04d}" for number in range(20)]
    found = swept(study, recipe, 1e-3, 9e-3)
    again = loop(study, recipe, of_time(1000.0), learns=False, sweep=found)
    assert trials_of(study, "refine-1") == 10
    assert "nothing was learned" in again.changes[0].evidence
    assert again.winner is not None
    assert "nothing-learned" not in rules(again)


@pytest.mark.slow
def test_a_round_of_swept_rates_goes_on_after_a_stop_and_is_tried_once(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    found = swept(study, recipe, 2e-2, 9e-2)  # no good either
    loop(study, recipe, of_runs(30), learns=False, sweep=found, events=8 * 3 + 4)
    assert 0 < trials_of(study, "refine-1") < 4
    for runs in (30, 60):
        outcome = loop(study, recipe, of_runs(runs), learns=False, sweep=found)
        assert "--study NAME" in finding(outcome, "nothing-learned").advice
        assert trials_of(study, "refine-1") == 4
        assert not (study.path / "refine-2").exists()


@pytest.mark.slow
def test_a_search_that_has_learned_nothing_yet_is_followed_by_longer_trials(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    short = recipe.with_values({"search.epochs": 2, "train.epochs": 2})
    outcome = loop(
        study, short.model_copy(update={"space": recipe.space}), of_runs(30), learns_after=2
    )
    assert "search.epochs: 2 became 4: nothing was learned yet" in outcome.changes[0].evidence
    assert Ledger.open(Study(study.path / "refine-1")).recipe.search.epochs == 4
    assert outcome.winner is not None
    assert outcome.winner.parent.parent.name.startswith("refine-")


@pytest.mark.slow
def test_longer_trials_that_learn_nothing_either_are_the_last(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    short = recipe.with_values({"search.epochs": 2, "train.epochs": 2})
    outcome = loop(
        study, short.model_copy(update={"space": recipe.space}), of_runs(60), learns_after=9
    )
    assert "nothing-learned" in rules(outcome)
    assert not (study.path / "refine-2").exists()


@pytest.mark.slow
def test_a_round_that_is_gone_is_told_and_its_number_is_not_given_again(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    loop(study, recipe, of_runs(17))
    study.write("tune", {"format": 1, "rounds": 1, "candidates": []})
    shutil.rmtree(study.path / "refine-1")
    outcome = loop(study, recipe, of_runs(26))
    assert finding(outcome, "missing-files").evidence.startswith(
        "refine-1 of this study is missing"
    )
    assert (study.path / "refine-2").is_dir()
    assert not (study.path / "refine-1").exists()
    (study.path / "tune.json").unlink()
    outcome = loop(study, recipe, of_runs(13))  # the gap between the numbers tells it too
    assert "missing-files" in rules(outcome)


def commands_of(study: Path) -> Sequence[object]:
    found: Sequence[object] = json.loads((study / "study.json").read_text())["commands"]
    return found


@pytest.mark.slow
def test_tune_takes_up_a_search_counts_its_trials_and_leaves_its_tables(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(LEARNS)
    assert call("search", "small.toml", "--budget", "4", cwd=tmp_path).code in (0, 1)
    outcome = tuned(tmp_path, LEARNS, "--budget", "17", "--workers", "1")
    assert outcome.code in (0, 1), outcome.err
    study = tmp_path / "runs/small"
    assert len(runs_of(Study(study))) in (13, 17)  # with or without a gain in the second round
    assert len(commands_of(study)) == 2
    for part in ("", "refine-1"):
        rows = (study / part / "trials.csv").read_text().splitlines()
        assert len(rows) == 1 + 4
    document = outcome.document
    assert (tmp_path / document["winner"]).is_file()
    assert document["winner"] == document["candidates"][0]["config"]
    assert f"cnntune train {document['winner']}" in outcome.err
    assert json.loads((study / "tune.json").read_text()) == document


@pytest.mark.slow
def test_a_search_of_hopeless_rates_without_a_sweep_is_saved_by_one(tmp_path: Path) -> None:
    hopeless = LEARNS.replace("[5e-2, 3e-1]", "[1e-7, 1e-6]")
    (tmp_path / "small.toml").write_text(hopeless)
    assert call("search", "small.toml", "--budget", "4", cwd=tmp_path).code == 1
    outcome = tuned(tmp_path, hopeless, "--budget", "17", "--workers", "1")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "runs/small/lr-sweep.json").is_file()
    assert "nothing was learned, and lr-sweep found this range" in said(outcome)
    assert "refine-1" in outcome.document["winner"]
    assert outcome.document["rounds"] == 1


def test_a_study_of_another_recipe_is_refused_before_the_checks(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    assert call("search", "small.toml", "--budget", "1", cwd=tmp_path).code in (0, 1)
    outcome = tuned(tmp_path, SMALL, "--set", "model.width=4")
    assert outcome.code == 2
    assert "holds another recipe: model.width" in outcome.err
    assert "training images" not in outcome.err
    assert not (tmp_path / "runs/small/lr-sweep.json").exists()
    assert len(commands_of(tmp_path / "runs/small")) == 1


def test_a_study_without_a_search_is_begun(tmp_path: Path, recipe: Recipe) -> None:
    assert begun_with(recipe, Study(tmp_path / "study")) is None


@pytest.mark.slow
def test_the_loop_checks_sweeps_and_ends_with_the_command_that_trains_the_winner(
    tmp_path: Path,
) -> None:
    outcome = tuned(tmp_path, LEARNS, "--budget", "17")
    assert outcome.code == 0, outcome.err
    assert "training images" in outcome.err
    assert "rates at a time" in outcome.err
    assert len(runs_of(Study(tmp_path / "runs/small"))) == 17
    assert len(commands_of(tmp_path / "runs/small")) == 1
    again = tuned(tmp_path, LEARNS, "--budget", "17")
    assert again.document["candidates"] == outcome.document["candidates"]


@pytest.mark.slow
def test_a_budget_of_time_ends_with_what_was_found(tmp_path: Path) -> None:
    outcome = tuned(tmp_path, LEARNS, "--budget", "60s")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / outcome.document["winner"]).is_file()


SHAPES = """
name = "small"
[data]
name = "shapes"
size = 1500
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


def said(outcome: Ended) -> str:
    assert outcome.code == 0, outcome.err
    return "\n".join(finding["evidence"] for finding in outcome.document["findings"])


def winners_recipe(folder: Path, outcome: Ended) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(
        (folder / outcome.document["winner"]).read_text()
    )
    return found


@pytest.mark.slow
def test_the_loop_gives_a_network_that_is_too_small_more_to_work_with(tmp_path: Path) -> None:
    text = SHAPES.format(width=2, weight_decay=0.01, epochs=6, low=1e-3, high=1e-2)
    outcome = tuned(tmp_path, text, "--budget", "23")
    assert "epochs: 6 became 12" in said(outcome) or "model.width: 2 became" in said(outcome)
    assert winners_recipe(tmp_path, outcome)["train"]["epochs"] > 6


@pytest.mark.slow
def test_the_loop_lowers_a_range_of_rates_that_is_too_high(tmp_path: Path) -> None:
    text = SHAPES.format(width=8, weight_decay=0.01, epochs=6, low=0.3, high=3.0)
    outcome = tuned(tmp_path, text, "--budget", "23")
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
    outcome = tuned(tmp_path, MEMORISED, "--budget", "19")
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


def repeated(folder: Path, number: int, *accs: float) -> Rival:
    """A trial whose fresh seeds have these accuracies."""
    study = Study(folder)
    for seed, acc in enumerate(accs, start=1):
        study.run(f"trial-{number:04d}-seed-{seed}").finish({"status": "complete", "val_acc": acc})
    summary = Summary("complete", 1, val_acc=0.99, val_images=1000)
    return Rival(Trial(number, {}, study.trial(number), summary), Recipe(name="test"))


def test_a_round_that_gains_less_than_chance_on_the_same_seeds_is_the_last(tmp_path: Path) -> None:
    # Gains of -1, 0 and 1.3 points: 0.1 on average, a deviation of 1.1533; one standard error is
    # 0.6658 points, and 1.061 is the 80 % quantile of Student's t for 2 degrees of freedom.
    earlier = repeated(tmp_path, 0, 0.90, 0.91, 0.92)
    found = within_chance(repeated(tmp_path, 1, 0.89, 0.91, 0.933), earlier)
    assert found is not None
    assert (found.measured, found.expected) == pytest.approx((0.001, 0.00706), abs=1e-5)
    assert found.evidence == (
        "the last round gained +0.10 points: trial-0001 against trial-0000 on the same 3 fresh"
        " seeds, where up to 0.71 points may be chance"
    )


def test_a_round_that_gains_on_every_seed_is_followed_by_another(tmp_path: Path) -> None:
    # Seeds differ by 10 points, and the gain of each is 1 point.
    earlier = repeated(tmp_path, 0, 0.70, 0.80, 0.90)
    assert within_chance(repeated(tmp_path, 1, 0.71, 0.81, 0.91), earlier) is None
    assert within_chance(repeated(tmp_path, 2, 0.70, 0.80, 0.90), earlier) is not None
    assert within_chance(repeated(tmp_path, 3, 0.60), earlier) is None  # one seed has no spread
    # A tenth of a point is one image of 1,000, whose error over three seeds is 0.061 points.
    assert within_chance(repeated(tmp_path, 4, 0.7005, 0.8005, 0.9005), earlier) is not None


def test_the_best_of_a_round_and_the_best_before_are_trained_with_the_same_seeds(
    tmp_path: Path, recipe: Recipe
) -> None:
    study = Study(tmp_path / "study")
    outcome = loop(study, recipe, of_runs(50))
    repeats = {
        (str(path.parent.parent.relative_to(study.path)), path.parent.name.rpartition("-seed-")[0])
        for path in study.path.rglob("trial-*-seed-*/config.json")
    }
    assert len(runs_of(study)) <= 50
    assert len(repeats) >= 2
    stopped = finding(outcome, "stopped")
    assert "on the same 3 fresh seeds" in stopped.evidence or "budget is spent" in stopped.evidence
