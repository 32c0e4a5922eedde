"""One training run that keeps its best weights, and the final test, once."""

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
TEST_WAITS = {"test": "not measured yet"}  # in the summary of a run that is trained, and no more
TELLING_LABELS = 50  # so many in random order are in no other data set: 2 classes, 2**50 orders
TELLING_IMAGES = 256  # evenly spread: more would read a large test part a second time
MUCH_WAITING = 0.2  # of the time; less is not worth the trouble of storing images anew


@contextmanager
def run_of(study: Study, recipe: Recipe) -> Iterator[Run]:
    """The folder to train `recipe` in, `train-0001` and so on, which nobody else takes meanwhile.

    That is the folder of a run of the very same recipe that was interrupted, in its training or
    before its final test, or a fresh one.
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
    """The recipe in the threads and the precision of its run that was interrupted, if any.

    A recipe that leaves them open would find others beside other processes or on another machine,
    and would not go on with the run. What the recipe gives stays.
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
    """Runs of the same recipe without an end, the last one first; some may be at work."""
    asked = as_config(recipe)
    for path in sorted(study.path.glob("train-*"), reverse=True):
        run = Run(path)
        summary = run.summary()
        unfinished = summary is None or TEST_WAITS.items() <= summary.items()
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


def trained_rows(run: Run, epochs: int) -> list[Epoch]:
    """The rows of a run that needs no more training, but its final test; else none."""
    rows = run.rows()
    ended = run.summary() is not None or len(rows) >= epochs
    return rows if ended and (run.path / WEIGHTS).is_file() else []


def keep_trained(
    run: Run, rows: list[Epoch], chance: Chance, waited_seconds: float
) -> dict[str, Any]:
    """Write what the training came to before the test is measured, which may yet fail or wait."""
    found = replace(summarise(rows, chance), **chance.as_json(), waited_seconds=waited_seconds)
    run.finish(found.to_json() | TEST_WAITS)
    return found.to_json()


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights that `save_weights` wrote into `model`.

    Raises:
        StudyError: where the file is missing, damaged, or of another model.
    """
    try:
        held = torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(held["weights"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(
            f"{path}: holds no weights of this model ({reason}); remove {path.parent}, and the same"
            " command trains anew"
        ) from None


def looks_of(study: Study) -> list[dict[str, Any]]:
    """The looks at test parts that the study's `test.json` holds, the first one first.

    Where the file is gone, those that the summaries of the runs tell of.

    Raises:
        StudyError: where the file is something else.
    """
    record = study.read("test")
    if record is None:
        return _looks_in_runs(study)
    looks = record.get("looks")
    whole = isinstance(looks, list) and all(
        isinstance(look, dict) and {"run", "at", "test_acc"} <= look.keys() for look in looks
    )
    if not whole:
        raise DamagedFileError(f"{study.path / 'test.json'}: holds no looks; remove it")
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
    """What tells test images from others, in any study.

    `labels` stands for all labels in their order, `images` for the images too. Where the order is
    that of no sorting, labels alone tell the images, in whatever size they are read; else the
    pixels of some images count.
    """

    labels: str
    images: str

    @classmethod
    def of(cls, part: Part, normalise: Normalise) -> "Fingerprint":
        """Of a test part, whose pixels are found by undoing `normalise`."""
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
    """Measure the weights in `best.pt` on the test part, unless the study did so before.

    A test part that is looked at twice has been tuned on. Each look is kept in the study's
    `test.json`, with a fingerprint of the images. A look at the same images in another study
    beside this one is told and keeps nobody from measuring. The views of the run's `[test]` are
    averaged. Returns what was measured, empty where nothing was, and what there is to say.
    """
    looks = looks_of(study)
    if data.test is None:
        return {}, [Finding("test", "info", "the data set has no test part")]
    seen = Fingerprint.of(data.test, data.normalise)
    for look in looks:
        if look["run"] == run.path.name:  # interrupted after the look
            return {key: look[key] for key in look if key.startswith("test_")}, []
    before = [look for look in looks if look.get("labels", seen.labels) == seen.labels]
    if before and not again:
        first, since = before[0], len(before) - 1
        later = f"; looks after that: {since}" if since else ""
        return {}, [
            Finding(
                "test",
                "info",
                f"the test part was used by {first['run']} on {first['at'][:10]}:"
                f" accuracy {first['test_acc']:.4f}{later}; it is not used again",
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
    at = datetime.now(UTC).isoformat(timespec="seconds")
    look = {"run": run.path.name, "at": at, **measured, **asdict(seen)}
    study.write("test", {"format": FORMAT, "looks": [*looks, look]})
    return measured, _look_findings(len(before) + 1, _looks_elsewhere(study, seen))


def _looks_elsewhere(study: Study, seen: Fingerprint) -> dict[str, int]:
    """How often the studies beside this one have looked at these images, by their name."""
    found = {}
    for path in sorted(study.path.absolute().parent.glob("*/test.json")):
        if path.parent == study.path.absolute():
            continue
        try:
            looks = looks_of(Study(path.parent))
        except StudyError:  # another study's file is not this one's trouble
            continue
        if count := sum(look.get("images") == seen.images for look in looks):
            found[path.parent.name] = count
    return found


def _look_findings(here: int, elsewhere: dict[str, int]) -> list[Finding]:
    """That these images were looked at before, and where."""
    total = here + sum(elsewhere.values())
    if total == 1:
        return []
    others = ", ".join(f"{count} in {name}" for name, count in elsewhere.items())
    return [
        Finding(
            "test",
            "warn",
            f"this was look number {total} at these test images"
            f"{f', after {others}' if others else ''}",
            "report the first look, or new images: choosing by test accuracy flatters it",
        )
    ]
