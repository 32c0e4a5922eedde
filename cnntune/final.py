"""One training run that keeps its best weights, and the final test, once."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnntune.build import with_defaults
from cnntune.data import Data
from cnntune.evaluate import evaluate
from cnntune.failures import full_disk
from cnntune.findings import Finding
from cnntune.recipe import Recipe, parse
from cnntune.runs import FORMAT, Epoch, Run, Study, best_epoch, locked
from cnntune.train import train
from cnntune.transfer.weights import save_weights
from cnntune.views import views

WEIGHTS = "best.pt"
MUCH_WAITING = 0.2  # of the time; less is not worth the trouble of storing images anew


@contextmanager
def run_of(study: Study, recipe: Recipe) -> Iterator[Run]:
    """The folder to train `recipe` in, `train-0001` and so on, which nobody else takes meanwhile.

    That is the folder of a run of the very same recipe that was interrupted, or a fresh one.
    """
    with ExitStack() as held:
        for run in _unfinished(study, recipe):
            if held.enter_context(locked(run.path)):
                yield run
                return
        run = _new_run(study)
        held.enter_context(locked(run.path))
        yield run


def _unfinished(study: Study, recipe: Recipe) -> Iterator[Run]:
    """Runs of the same recipe without an end, the last one first; some may be at work."""
    asked = as_config(recipe)
    for path in sorted(study.path.glob("train-*"), reverse=True):
        run = Run(path)
        if run.summary() is None and run.config() == asked:
            yield run


def _new_run(study: Study) -> Run:
    study.path.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        run = study.run(f"train-{number:04d}")
        try:
            run.path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return run


def as_config(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it stands in a run's `config.json`."""
    values: dict[str, Any] = json.loads(json.dumps(with_defaults(recipe).as_values()))
    return values


def train_and_keep(
    recipe: Recipe, data: Data, device: torch.device, model: nn.Module, run: Run
) -> Iterator[Epoch]:
    """Train `model` into the folder of `run`; the weights of the best epoch lie in `best.pt`.

    A run that was interrupted goes on after its last epoch; the rows before are yielded too.

    Raises:
        StudyError: where the disk is full.
    """
    logged = run.begin(as_config(recipe))
    rows: list[Epoch] = []
    try:
        for row in train(recipe, data, device, model=model, saved=run.checkpoint):
            rows.append(row)
            if row.epoch > logged:  # first the weights: what is logged was kept
                if best_epoch(rows) is row:
                    mean, std = data.normalise.mean.flatten(), data.normalise.std.flatten()
                    save_weights(model, mean, std, data.classes, run.path / WEIGHTS)
                run.log(row)
            yield row
    except Exception as error:
        if full := full_disk(error, run.path):
            raise full from error
        raise


def waiting_findings(rows: Sequence[Epoch], waited_seconds: float) -> list[Finding]:
    """Whether reading images held the training up; they are streamed where they do not fit."""
    seconds = sum(row.seconds for row in rows)
    if not waited_seconds or waited_seconds < MUCH_WAITING * seconds:
        return []
    share = min(1.0, waited_seconds / seconds)
    return [
        Finding(
            "waiting",
            "warn",
            f"training stood still for {share:.0%} of the time until images were read",
            "store the images in their final size, or train where there are more CPU cores",
            measured=share,
        )
    ]


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights that `save_weights` wrote into `model`."""
    held = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(held["weights"])


def final_test(
    model: nn.Module, data: Data, study: Study, run: Run, *, again: bool
) -> tuple[dict[str, Any], list[Finding]]:
    """Measure the weights in `best.pt` on the test part, unless the study did so before.

    A test part that is looked at twice has been tuned on. Each look is kept in the study's
    `test.json`. The views of the run's `[test]` are averaged. Returns what was measured, empty
    where nothing was, and what there is to say.
    """
    record = study.read("test") or {"format": FORMAT, "looks": []}
    if data.test is None:
        return {}, [Finding("test", "info", "the data set has no test part")]
    last = record["looks"][-1] if record["looks"] else None
    if last and last["run"] == run.path.name:  # interrupted after the look
        return {key: last[key] for key in last if key.startswith("test_")}, []
    if last and not again:
        return {}, [
            Finding(
                "test",
                "info",
                f"the test part was used by {last['run']} on {last['at'][:10]}:"
                f" accuracy {last['test_acc']:.4f}; it is not used again",
                "--test-again measures it all the same, and keeps a record of it",
            )
        ]
    load_weights(model, run.path / WEIGHTS)
    recipe = parse(run.config(), file=str(run.path / "config.json"))
    shown = views(recipe.test, data.normalise.black)
    score = evaluate(model, data.test, views=shown, precision=recipe.train.precision)
    measured = {"test_acc": score.acc, "test_loss": score.loss, "test_images": len(data.test)}
    if len(shown) > 1:
        measured["test_views"] = len(shown)
    look = {"run": run.path.name, "at": datetime.now(UTC).isoformat(timespec="seconds"), **measured}
    record["looks"].append(look)
    study.write("test", record)
    findings = []
    if len(record["looks"]) > 1:
        findings.append(
            Finding(
                "test",
                "warn",
                f"this was look number {len(record['looks'])} at the test part",
                "report the first look, or new images: choosing by test accuracy flatters it",
            )
        )
    return measured, findings
