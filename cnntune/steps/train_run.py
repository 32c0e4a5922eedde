"""One training run that keeps its best weights, and the final evaluation on the test set."""

import hashlib
import json
import pickle
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data, Part
from cnntune.data.parts import Normalise
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.models.pretrained.weights import save_weights
from cnntune.runs.chance import Chance
from cnntune.runs.files import FORMAT, DamagedFileError, locked
from cnntune.runs.run import Epoch, Run, best_epoch
from cnntune.runs.study import Study
from cnntune.runs.summary import summarise
from cnntune.training.build import with_defaults
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import train
from cnntune.training.tta import views
from cnntune.user_code.failures import full_disk

WEIGHTS = "best.pt"
TEST_PENDING = {"test": "not measured yet"}  # in the summary of a trained run, before its test
TELLING_LABELS = 50  # in random order these identify a data set: 2 classes have 2**50 orders
TELLING_IMAGES = 256  # evenly spread: more would read a large test set a second time
MAX_WAITING = 0.2  # of the time; less does not justify storing the images in another size


@contextmanager
def run_of(study: Study, recipe: Recipe) -> Iterator[Run]:
    """The folder to train `recipe` in, `train-0001` and so on, locked within the block.

    This is the folder of an interrupted run of the same recipe (in its training or before its final
    test), or a new one.
    """
    with ExitStack() as held:
        for run in _unfinished(study, recipe):
            if held.enter_context(locked(run.path)):
                yield run
                return
        run = _new_run(study)
        held.enter_context(locked(run.path))
        yield run


def as_begun(study: Study, recipe: Recipe) -> Recipe:
    """The recipe with the threads and precision of its interrupted run, if there is one.

    Otherwise, if the recipe leaves them open, other processes or another machine could change them,
    and the run would not be resumed. Values that the recipe sets are kept.
    """
    asked = recipe.train
    for path in sorted(study.path.glob("train-*"), reverse=True):
        run = Run(path)
        begun = run.config().get("train", {}) if run.summary() is None else {}
        settled = {
            "threads": asked.threads or begun.get("threads", 0),
            "precision": begun.get("precision") if asked.precision == "auto" else asked.precision,
        }
        candidate = recipe.model_copy(update={"train": asked.model_copy(update=settled)})
        if begun and as_config(candidate) == run.config():
            return candidate
    return recipe


def _unfinished(study: Study, recipe: Recipe) -> Iterator[Run]:
    """Unfinished runs of the same recipe, the last one first; some may be running."""
    asked = as_config(recipe)
    for path in sorted(study.path.glob("train-*"), reverse=True):
        run = Run(path)
        summary = run.summary()
        unfinished = summary is None or TEST_PENDING.items() <= summary.items()
        if unfinished and run.config() == asked:
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
    """The recipe as it is stored in a run's `config.json`."""
    values: dict[str, Any] = json.loads(json.dumps(with_defaults(recipe).as_values()))
    return values


def train_and_keep(
    recipe: Recipe, data: Data, device: torch.device, model: nn.Module, run: Run
) -> Iterator[Epoch]:
    """Train `model` in the folder of `run`, and save the weights of the best epoch in `best.pt`.

    An interrupted run resumes after its last epoch; its earlier rows are yielded too.

    Raises:
        StudyError: if the disk is full.
    """
    logged = run.begin(as_config(recipe))
    rows: list[Epoch] = []
    try:
        for row in train(recipe, data, device, model=model, saved=run.checkpoint):
            rows.append(row)
            if row.epoch > logged:  # weights are saved first: a logged epoch has its weights
                if best_epoch(rows) is row:
                    mean, std = data.normalise.mean.flatten(), data.normalise.std.flatten()
                    kept = {"in_shape": list(data.in_shape), "recipe": as_config(recipe)}
                    save_weights(model, mean, std, data.classes, run.path / WEIGHTS, **kept)
                run.log(row)
            yield row
    except Exception as error:
        if full := full_disk(error, run.path):
            raise full from error
        raise


def waiting_findings(rows: Sequence[Epoch], waited_seconds: float) -> list[Finding]:
    """A finding if training waited for streamed images for a fifth of its time or more."""
    seconds = sum(row.seconds for row in rows)
    if not waited_seconds or waited_seconds < MAX_WAITING * seconds:
        return []
    share = min(1.0, waited_seconds / seconds)
    return [
        Finding(
            "waiting",
            "warn",
            f"training waited for images to be read for {share:.0%} of the time",
            "store the images in their final size, or use more CPU cores",
            measured=share,
        )
    ]


def trained_rows(run: Run, epochs: int) -> list[Epoch]:
    """The rows of a run that is trained and needs only its final test; else none."""
    rows = run.rows()
    ended = run.summary() is not None or len(rows) >= epochs
    return rows if ended and (run.path / WEIGHTS).is_file() else []


def keep_trained(
    run: Run, rows: list[Epoch], chance: Chance, waited_seconds: float
) -> dict[str, Any]:
    """Write and return the summary of a trained run, before its test, which may be interrupted."""
    found = replace(summarise(rows, chance), **chance.as_json(), waited_seconds=waited_seconds)
    run.finish(found.to_json() | TEST_PENDING)
    return found.to_json()


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights that `save_weights` wrote into `model`.

    Raises:
        StudyError: if the file is missing, damaged, or of another model.
    """
    try:
        held = torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(held["weights"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(
            f"{path}: cannot load the weights of this model ({reason}); remove {path.parent} and"
            " run the same command to train again"
        ) from None


def looks_of(study: Study) -> list[dict[str, Any]]:
    """The evaluations on test sets that the study's `test.json` records, in order.

    If the file is missing, those that the summaries of the runs record.

    Raises:
        StudyError: if the file is damaged.
    """
    record = study.read("test")
    if record is None:
        return _looks_in_runs(study)
    looks = record.get("looks")
    whole = isinstance(looks, list) and all(
        isinstance(look, dict) and {"run", "at", "test_acc"} <= look.keys() for look in looks
    )
    if not whole:
        raise DamagedFileError(
            f"{study.path / 'test.json'}: has no record of test evaluations; remove it"
        )
    return list(looks or [])


def _looks_in_runs(study: Study) -> list[dict[str, Any]]:
    found = []
    for path in sorted(study.path.glob("train-*/summary.json")):
        summary = Run(path.parent).summary() or {}
        if "test_acc" in summary:
            at = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
            measured = {key: summary[key] for key in summary if key.startswith("test_")}
            found.append({"run": path.parent.name, "at": at, **measured})
    return found


@dataclass(frozen=True)
class Fingerprint:
    """Identifies test images, in any study.

    `labels` is a hash of all labels in their order, `images` also of pixels. If labels are not
    sorted, their order identifies the images, whatever size these are read in; otherwise `images`
    includes the pixels of some images.
    """

    labels: str
    images: str

    @classmethod
    def of(cls, part: Part, normalise: Normalise) -> "Fingerprint":
        """The fingerprint of a test set; `normalise` is undone to get its pixels."""
        labels = part.labels.cpu().to(torch.int64)
        digest = hashlib.sha256(labels.numpy().tobytes())
        of_labels = digest.hexdigest()[:16]
        if len(labels) >= TELLING_LABELS and bool((labels.diff() < 0).any()):
            return cls(of_labels, of_labels)
        chosen = torch.arange(len(part))[:: max(1, len(part) // TELLING_IMAGES)]
        for inputs, _ in part.batches(chosen, 64):
            levels = (normalise.undo(inputs) * 255).round().to(torch.int64)  # exact for bytes
            digest.update(levels.cpu().contiguous().numpy().tobytes())
        return cls(of_labels, digest.hexdigest()[:16])


def final_test(
    model: nn.Module, data: Data, study: Study, run: Run, *, again: bool
) -> tuple[dict[str, Any], list[Finding]]:
    """Evaluate the weights in `best.pt` on the test set, unless the study did so before.

    A model that is chosen by repeated evaluations on a test set is tuned on it. Each evaluation is
    recorded in the study's `test.json`, with a fingerprint of the images. Evaluations on the same
    images in neighbouring studies are reported, but do not prevent this one. The views of the run's
    `[test]` are averaged. Returns the results, empty if there are none, and findings.
    """
    looks = looks_of(study)
    if data.test is None:
        return {}, [Finding("test", "info", "the data has no test set")]
    seen = Fingerprint.of(data.test, data.normalise)
    for look in looks:
        if look["run"] == run.path.name:  # interrupted after the evaluation
            return {key: look[key] for key in look if key.startswith("test_")}, []
    before = [look for look in looks if look.get("labels", seen.labels) == seen.labels]
    if before and not again:
        first, since = before[0], len(before) - 1
        later = f"; evaluated {since} more time{'' if since == 1 else 's'} since" if since else ""
        return {}, [
            Finding(
                "test",
                "info",
                f"the test set was evaluated by {first['run']} on {first['at'][:10]}: accuracy"
                f" {first['test_acc']:.4f}{later}; it is not evaluated again",
                "--test-again evaluates it nevertheless, and records that",
            )
        ]
    load_weights(model, run.path / WEIGHTS)
    recipe = parse(run.config(), file=str(run.path / "config.json"))
    shown = views(recipe.test, data.normalise.black)
    score = evaluate(model, data.test, views=shown, precision=recipe.train.precision)
    measured = {"test_acc": score.acc, "test_loss": score.loss, "test_images": len(data.test)}
    if len(shown) > 1:
        measured["test_views"] = len(shown)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    look = {"run": run.path.name, "at": at, **measured, **asdict(seen)}
    study.write("test", {"format": FORMAT, "looks": [*looks, look]})
    return measured, _look_findings(len(before) + 1, _looks_elsewhere(study, seen))


def _looks_elsewhere(study: Study, seen: Fingerprint) -> dict[str, int]:
    """How often neighbouring studies have evaluated on these images, by the study's name."""
    found = {}
    for path in sorted(study.path.absolute().parent.glob("*/test.json")):
        if path.parent == study.path.absolute():
            continue
        try:
            looks = looks_of(Study(path.parent))
        except StudyError:  # a damaged file of another study does not matter here
            continue
        if count := sum(look.get("images") == seen.images for look in looks):
            found[path.parent.name] = count
    return found


def _look_findings(here: int, elsewhere: dict[str, int]) -> list[Finding]:
    """A finding if these test images were evaluated before, with the studies where."""
    total = here + sum(elsewhere.values())
    if total == 1:
        return []
    others = ", ".join(f"{count} in {name}" for name, count in elsewhere.items())
    return [
        Finding(
            "test",
            "warn",
            f"this was evaluation number {total} on these test images"
            f"{f', after {others}' if others else ''}",
            "report the first one, or use new images: choosing by test accuracy biases it upwards",
        )
    ]
