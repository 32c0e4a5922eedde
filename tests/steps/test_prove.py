"""Proving advice: changes against a control on real digits, and what a study makes of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, call, one_after_the_other
from jsonschema import Draft202012Validator

from cnntune.config.recipe import Recipe, parse
from cnntune.config.space import Choice, Range
from cnntune.diagnosis.advice import Prescription
from cnntune.diagnosis.proven import Comparison, Proof, proofs_in, with_proofs
from cnntune.diagnosis.rules import Diagnosis
from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.steps import prove
from cnntune.steps.next_space import apply, changes
from cnntune.steps.refine import proposal
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.pool import Job, in_order

SCHEMA = Path(__file__).parents[2] / "docs/reference/schema"
SHORT = (
    *("--set", "data.size=600", "--set", "model.width=8", "--set", "train.batch_size=32"),
    *("--set", "train.epochs=3", "--set", "train.lr=0.05", "--no-test", "--study", "short"),
)
RUN = Path("runs/short/train-0001")


def compared(
    key: str, after: Any, *, before: Any = 0, low: float = 0.01, **more: Any
) -> Comparison:
    result = "works" if low > 0 else "unproven"
    pairs: dict[str, Any] = {"control": [0.8] * 3, "changed": [0.83] * 3}
    numbers: dict[str, Any] = {"diverged": 0, "failed": 0, "mean": low + 0.02, "high": low + 0.04}
    found = Comparison(
        key, before, after, f"line of {key}", "beginning", 10, **pairs, **numbers, low=low,
        result=result,  # type: ignore[arg-type]
    )  # fmt: skip
    return replace(found, **more)


def proof(*comparisons: Comparison, run: str = "trial-0007", after_round: int = 0) -> Proof:
    return Proof(run, "overfitting", [1, 2, 3], None, after_round, True, list(comparisons))


def test_the_interval_is_that_of_paired_differences() -> None:
    # By hand: mean 0.03, sd 0.01, 4.303 (t table: two-sided 95 %, 2 degrees) * 0.01 / sqrt(3)
    mean, low, high = prove.paired([0.02, 0.03, 0.04])
    assert mean == pytest.approx(0.03)
    assert low == pytest.approx(0.03 - 0.02484, abs=1e-5)
    assert high == pytest.approx(0.03 + 0.02484, abs=1e-5)


def test_equal_differences_have_the_width_of_one_image() -> None:
    # sd 0, but 1/50 with 50 images: 4.303 * 0.02 / sqrt(3) = 0.0497
    assert prove.paired([0.04] * 3, val_images=50)[1] == pytest.approx(0.04 - 0.0497, abs=1e-4)
    assert prove.paired([0.04]) == (None, None, None)


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A folder with a run that still improves, and its proof."""
    folder = tmp_path_factory.mktemp("proof")
    trained = call("train", "digits", *SHORT, cwd=folder)
    assert trained.code == 0, trained.err
    return folder, call("diagnose", "--prove", str(RUN), "--json", "--workers", "1", cwd=folder)


def test_more_epochs_are_proven_on_a_run_that_still_improves(
    proven: tuple[Path, Outcome],
) -> None:
    folder, outcome = proven
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert document["proof"]["kept"] == [{"key": "train.epochs", "value": 6, "start": "beginning"}]
    [run] = document["runs"]
    assert run["advice"][0].startswith("proven here: train.epochs 3 -> 6 gave +")
    assert "train.epochs=6" in run["command"]
    # The seed of the run itself is not used again: the run was chosen by what it showed.
    assert document["proof"]["seeds"] == [1, 2, 3]
    stored = json.loads((folder / "runs/short/prove.json").read_text())
    assert stored["proofs"] == [document["proof"]]


@pytest.mark.parametrize("name", ["diagnose", "prove"])
def test_the_documents_of_a_proof_are_as_their_schemas_say(
    name: str, proven: tuple[Path, Outcome]
) -> None:
    stored = json.loads((proven[0] / "runs/short/prove.json").read_text())
    document = {"diagnose": proven[1].document, "prove": stored}[name]
    schema = json.loads((SCHEMA / f"{name}.json").read_text())
    assert [e.message for e in Draft202012Validator(schema).iter_errors(document)] == []


def test_a_control_differs_from_its_change_in_the_key_alone(proven: tuple[Path, Outcome]) -> None:
    runs = proven[0] / "runs/short/prove/train-0001"
    control = Run(runs / "beginning-control-seed-2").config()
    changed = Run(runs / "beginning-train.epochs=6-seed-2").config()
    changed["train"]["epochs"] = 3
    assert control == changed
    assert control["seed"] == 2


def test_later_diagnoses_use_the_proof_and_hide_its_runs(proven: tuple[Path, Outcome]) -> None:
    later = call("diagnose", "runs", "--json", cwd=proven[0]).document
    [run] = later["runs"]
    assert run["advice"][0].startswith("proven here: ")
    named = call("diagnose", "runs/short/prove", "--json", cwd=proven[0]).document
    assert len(named["runs"]) == 6


def test_finished_runs_are_not_trained_again(proven: tuple[Path, Outcome]) -> None:
    folder, before = proven
    runs = folder / "runs/short/prove/train-0001"
    kept = {path: path.read_bytes() for path in runs.rglob("metrics.csv")}
    lost = runs / "beginning-control-seed-3"
    (lost / "summary.json").unlink()  # as after a kill in its last epoch
    again = call("diagnose", "--prove", str(RUN), "--json", "--workers", "1", cwd=folder)
    assert again.err.count("val acc") == 1
    assert {path: path.read_bytes() for path in runs.rglob("metrics.csv")}.keys() == kept.keys()
    untouched = {path: text for path, text in kept.items() if path.parent != lost}
    assert all(path.read_bytes() == text for path, text in untouched.items())
    assert again.document["proof"] == before.document["proof"]


def test_the_screen_shows_a_row_per_change(proven: tuple[Path, Outcome]) -> None:
    shown = call("diagnose", "--prove", str(RUN), "--workers", "1", cwd=proven[0]).out
    assert "proof, train-0001: mean validation accuracy over seeds 1, 2, 3" in shown
    assert "epochs 3 -> 6" in shown
    assert "kept: train.epochs=6" in shown


def test_a_run_continues_from_a_checkpoint_with_the_change(tmp_path: Path) -> None:
    sets = ["data.size=200", "model.width=8", "train.epochs=5", "train.precision=float32"]
    recipe = load_recipe("digits", [*sets, "train.threads=1"]).for_run()
    run = Study(tmp_path / "study").run("trial-0000")
    for _ in one_after_the_other(
        in_order([Job(0, recipe, run.path, until=2)]), workers=1, devices=("cpu",)
    ):
        pass
    assert run.checkpoint.exists()
    decay = Prescription("train.weight_decay", 1e-4, 1e-2, "raise it")
    width = Prescription("model.width", 8, 4, "lower it")
    diagnosis = Diagnosis("overfitting", 0.9, "warn", "", prescriptions=[decay, width])
    experiment = prove.design(run, recipe, diagnosis, [1, 2])
    run.checkpoint.unlink()  # the search has finished the run meanwhile
    # A smaller network cannot take over the weights, so it is only trained from the beginning.
    continued = [arm.cure for arm in experiment.arms() if arm.start == "checkpoint"]
    assert continued == [None, decay]
    jobs = [job for job in prove.to_train(experiment) if job.continues]
    for _ in one_after_the_other(in_order(jobs), workers=1, devices=("cpu",)):
        pass
    assert [job.folder.name for job in jobs[:2]] == [
        "checkpoint-control-seed-1",
        "checkpoint-train.weight_decay=0.01-seed-1",
    ]
    control, changed = (Run(job.folder).rows() for job in jobs[:2])
    assert len(control) == len(changed) == 5
    assert control[:2] == changed[:2] == run.rows()
    assert control[2].train_loss != changed[2].train_loss
    found = prove.result(experiment)
    assert (found.checkpoint, found.complete) == (2, False)  # the beginning is not trained


def test_too_few_epochs_after_a_checkpoint_show_nothing(tmp_path: Path) -> None:
    decay = Prescription("train.weight_decay", 0.0, 1e-3, "raise it")
    warm_up = Prescription("train.warmup_epochs", 0.0, 1.0, "warm up")
    recipe = Recipe().with_values({"train.epochs": 10})
    made = prove.Experiment(
        Run(tmp_path), recipe, "overfitting", (decay, warm_up), (1,), checkpoint=7
    )
    assert [arm.cure for arm in made.arms() if arm.start == "checkpoint"] == [None, decay]
    later = replace(made, checkpoint=8)
    assert not [arm for arm in later.arms() if arm.start == "checkpoint"]


def test_a_diverged_run_is_worth_a_guess(tmp_path: Path) -> None:
    lower = Prescription("train.lr", 1.0, 0.1, "lower it")
    made = prove.Experiment(Run(tmp_path / "t"), Recipe(), "unstable", (lower,), (1, 2), None)
    control, changed = made.arms()
    for seed in made.seeds:
        control.run(seed).finish({"status": "diverged", "chance_acc": 0.1, "val_images": 100})
        run = changed.run(seed)
        run.begin({})
        run.metrics.write_text(
            "epoch,lr,train_loss,train_acc,val_loss,val_acc,grad_norm,seconds\n"
            f"1,0.1,1.0,0.5,1.0,0.{seed + 5},1.0,1.0\n"
        )
        run.finish({"status": "complete", "val_acc": 0.5, "val_images": 100})
    [found] = prove.result(made).comparisons
    assert (found.control, found.changed) == ([0.1, 0.1], [0.6, 0.7])


def test_where_nothing_was_learned_learning_rates_on_both_sides_are_tried(tmp_path: Path) -> None:
    recipe = Recipe().with_values({"train.lr": 3e-4})
    guessing = Diagnosis("underfitting", 0.9, "warn", "")
    found = prove.design(Run(tmp_path / "trial-0001"), recipe, guessing, [1]).cures
    assert [(one.key, one.after) for one in found] == [("train.lr", 3e-3), ("train.lr", 3e-5)]
    lr: dict[str, Any] = {"before": 3e-4, "advice": "raise it"}
    tried = proof(compared("train.lr", 3e-3, **lr), compared("train.lr", 3e-5, low=-0.1, **lr))
    tried = replace(tried, run="trial-0001", label="underfitting")
    advice = replace(guessing, advice=["run lr-sweep"])
    shown = with_proofs(advice, tmp_path / "trial-0001", [tried])
    assert shown.advice[0].startswith("proven here: train.lr 0.0003 -> 0.003 gave +3.0 points")
    assert shown.advice[1:] == ["run lr-sweep"]
    assert shown.change == ("train.lr", 3e-3)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["log.csv"], "log.csv: is no run of cnntune"),
        (["nowhere"], "nowhere: no such run"),
        (["log.csv", "log.csv"], "--prove: must be given one run of cnntune (got 2 paths)"),
        (["log.csv", "--map", "val_loss=x"], "--map: "),
    ],
)
def test_what_is_no_run_of_cnntune_is_refused_in_a_line(
    words: list[str], line: str, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("epoch,loss\n1,3\n2,2\n3,1\n")
    outcome = call("diagnose", "--prove", *words, cwd=tmp_path)
    assert outcome.code == 2
    assert line in outcome.err
    assert "Traceback" not in outcome.err


def test_options_of_training_are_refused_where_nothing_is_trained(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,loss\n1,3\n2,2\n3,1\n")
    outcome = call("diagnose", "log.csv", "--seeds", "3", "--device", "cpu", cwd=tmp_path)
    assert outcome.code == 2
    assert "--seeds: only with --prove" in outcome.err
    assert "--device: only with --prove" in outcome.err


def test_a_diagnosis_that_changes_no_key_has_nothing_to_prove(tmp_path: Path) -> None:
    short = [word.replace("train.epochs=3", "train.epochs=2") for word in SHORT]
    assert call("train", "digits", *short, cwd=tmp_path).code == 0
    outcome = call("diagnose", "--prove", str(RUN), "--json", cwd=tmp_path)
    assert outcome.code == 0
    assert outcome.document["proof"] is None
    found = outcome.document["findings"][-1]
    assert (found["rule"], found["severity"]) == ("proof", "info")
    assert "too-short changes no key" in found["evidence"]
    assert not (tmp_path / "runs/short/prove").exists()


def advised(**more: Any) -> Diagnosis:
    decay = Prescription("train.weight_decay", 0.0, 1e-4, "line of train.weight_decay")
    drop = Prescription("model.dropout", 0.0, 0.2, "line of model.dropout")
    lines = [decay.line, "collect more training data", drop.line]
    values: dict[str, Any] = {"advice": lines, "prescriptions": [decay, drop]}
    return Diagnosis(
        "overfitting", 0.9, "warn", "", change=(decay.key, decay.after), **values | more
    )


def test_what_worked_is_the_first_advice_and_what_did_not_is_none(tmp_path: Path) -> None:
    tried = proof(compared("train.weight_decay", 1e-4, low=-0.05), compared("model.dropout", 0.2))
    found = with_proofs(advised(), tmp_path / "trial-0007", [tried])
    assert found.advice == [
        "proven here: model.dropout 0 -> 0.2 gave +3.0 points of validation accuracy [+1.0, +5.0]"
        " over 3 seeds (trial-0007)",
        "collect more training data",
        "tried here without a proven gain: train.weight_decay",
    ]
    assert found.change == ("model.dropout", 0.2)


def test_other_runs_with_the_label_get_what_worked_and_keep_their_advice(tmp_path: Path) -> None:
    tried = proof(compared("train.weight_decay", 1e-4, low=-0.05), compared("model.dropout", 0.2))
    found = with_proofs(advised(), tmp_path / "trial-0008", [tried])
    assert found.advice[0].endswith("(trial-0007)")
    assert found.advice[1:] == [
        "line of model.dropout",
        "line of train.weight_decay",
        "collect more training data",
    ]
    other = advised()
    unlike = Diagnosis("converged", 0.9, "ok", "", advice=other.advice)
    assert with_proofs(unlike, tmp_path / "trial-0008", [tried]) is unlike


def test_a_change_that_harms_from_one_start_is_not_kept() -> None:
    harmful = compared("model.dropout", 0.2, start="checkpoint", result="harms")
    assert proof(compared("model.dropout", 0.2), harmful).kept == []


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "prove.json").write_text('{"format": 1, "proofs": [{"run": "trial-0001"}, 3]}')
    assert proofs_in(tmp_path) == []
    (tmp_path / "prove.json").write_text('{"form')
    assert proofs_in(tmp_path) == []


@pytest.mark.parametrize(
    ("space", "change", "after"),
    [
        ({"train.lr": {"log": [1e-2, 1e-1]}}, ("train.lr", 1e-4), Range(1e-4, 1e-1, log=True)),
        ({"model.width": {"choice": [8, 16]}}, ("model.width", 32), Choice((8, 16, 32))),
        ({}, ("train.grad_clip", 1.0), Choice((0.0, 1.0))),  # not searched: with and without
    ],
)
def test_what_was_proven_is_in_the_next_space(
    space: dict[str, Any], change: tuple[str, Any], after: Any
) -> None:
    recipe = parse({"model": {"width": 8}, "space": space}, file="test")
    key, value = change
    strong = [{one: dimension.at(end) for one, dimension in recipe.space.items()} for end in (0, 1)]
    made = changes(recipe, strong, None, {}, [proof(compared(key, value))])
    assert apply(recipe, made).space[key] == after
    assert "proven on trial-0007: +3.0 points" in str(made)
    unproven = proof(compared(key, value, low=-0.01))
    assert changes(recipe, strong, None, {}, [unproven]) == changes(recipe, strong, None, {})


def test_proven_epochs_lengthen_the_next_round() -> None:
    recipe = parse({"train": {"epochs": 4}, "search": {"epochs": 4}}, file="test")
    more = proof(compared("train.epochs", 8, before=4))
    longer = apply(recipe, changes(recipe, [{}], None, {}, [more]))
    assert (longer.train.epochs, longer.search.epochs) == (8, 8)


@pytest.mark.slow
def test_a_refinement_uses_a_proof_once(tmp_path: Path) -> None:
    words = "--set data.size=300 --set model.width=8 --set train.batch_size=16 --budget 3"
    words += " --set train.optimizer=adam --set space.train.lr={log=[3e-3,1e-2]} --epochs 3"
    assert call("search", "digits", *words.split(), cwd=tmp_path).code in (0, 1)
    study = Study(tmp_path / "runs/digits")
    prove.store(study, proof(compared("train.grad_clip", 1.0), run="trial-0001"))
    assert proposal(study, None)[0].space["train.grad_clip"] == Choice((0.0, 1.0))
    prove.store(study, proof(compared("train.grad_clip", 1.0), run="trial-0001", after_round=1))
    assert "train.grad_clip" not in proposal(study, None)[0].space
