"""The trials that compete to be the best of a study: those of its search and its refinements."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from cnntune.config.recipe import Recipe, flatten
from cnntune.config.space import Value
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.runs.run import Run, best_epoch
from cnntune.runs.study import Study
from cnntune.runs.summary import summarise
from cnntune.steps.search_findings import nothing_learned
from cnntune.study.ledger import Ledger, begun
from cnntune.study.trial import Trial, ranked

CANDIDATES = 3  # trained again, to see whether the first one was best by chance
# Of a trial that `refine` trains for longer, the keys that follow from its number of epochs.
LENGTH = {"train.epochs", "train.schedule", "train.warmup_epochs"}


@dataclass(frozen=True)
class Rival:
    """A trial of a round, with the recipe of the round.

    `cut` marks a trial that ran out of time: it counts by the best of its completed epochs, and its
    repeats train all epochs.
    """

    trial: Trial
    recipe: Recipe
    cut: bool = False

    @property
    def study(self) -> Study:
        """The folder of the trial's round."""
        return Study(self.trial.run.path.parent)

    @property
    def name(self) -> str:
        """`trial-0003`, or `refine-1/trial-0003`."""
        return self.trial.run.name

    def repeats(self, seeds: int) -> list[tuple[int, Run]]:
        """The offset of each repeat's seed from the recipe's, and its folder."""
        name = self.trial.run.path.name
        return [(more, self.study.run(f"{name}-seed-{more}")) for more in range(1, seeds + 1)]


def rounds(study: Study) -> list[Study]:
    """The refinements of a study, `refine-1` first."""
    found = [path for path in study.path.glob("refine-*") if path.name[7:].isdigit()]
    return [Study(path) for path in sorted(found, key=lambda path: int(path.name[7:]))]


def number_of(part: Study) -> int:
    """2 for `refine-2`, 0 for the search itself."""
    number = part.path.name.rpartition("refine-")[2]
    return int(number) if number.isdigit() and part.path.name.startswith("refine-") else 0


def last_known_round(study: Study) -> int:
    """The highest number of a round in the study's folder or in its `tune.json`."""
    record = study.read("tune") or {}
    found = [number_of(part) for part in rounds(study)]
    folders = [Path(str(one.get("config"))).parent.parent for one in record.get("candidates") or []]
    return max([0, *found, int(record.get("rounds") or 0), *(number_of(Study(f)) for f in folders)])


def lost_rounds(study: Study) -> list[Finding]:
    """A finding if the folder or the record of a round is missing.

    Numbers of later rounds, folders of trials and `tune.json` show that the round existed.
    """
    present = {
        number_of(part)
        for part in rounds(study)
        if begun(part) is not None or not any(part.path.glob("trial-*"))
    }
    lost = [n for n in range(1, last_known_round(study) + 1) if n not in present]
    if not lost:
        return []
    names = ", ".join(f"refine-{number}" for number in lost)
    return [
        Finding(
            "missing-files",
            "warn",
            f"{names} of this study {'are' if len(lost) > 1 else 'is'} missing, or without a"
            " study.db: their trials are ignored",
            "restore the folders from a copy",
            where=str(study.path),
            measured=len(lost),
        )
    ]


def ledgers(study: Study) -> list[Ledger]:
    """The records of the search and its refinements, finished or not, in order."""
    return [ledger for part in [study, *rounds(study)] if (ledger := begun(part)) is not None]


def pool(records: Sequence[Ledger]) -> list[Rival]:
    """All trials of a study's rounds, those of the last round first.

    The order only decides between equal trials: those of later rounds, with better spaces, come
    first.
    """
    found: list[Rival] = []
    for ledger in records:
        recipe = ledger.recipe
        found = [*(rival_of(trial, recipe) for trial in ledger.trials()), *found]
    return found


def rival_of(trial: Trial, recipe: Recipe) -> Rival:
    """A trial of a round with that recipe; an unfinished one counts by its curve so far."""
    rows = trial.run.rows() if trial.status == "running" else []
    if best_epoch(rows) is None:
        return Rival(trial, recipe)
    return Rival(replace(trial, summary=summarise(rows)), recipe, cut=True)


def best_rivals(rivals: Sequence[Rival]) -> list[Rival]:
    """The best three trials that were not pruned, by validation accuracy, then loss.

    Accuracies count the same, whatever the number of epochs. A round may train the best trial of an
    earlier one again: the same configuration is included once, see `_once_each`. Empty if no trial
    has learned anything.
    """
    if nothing_learned([rival.trial for rival in rivals]):
        return []
    complete = [rival for rival in rivals if rival.trial.status == "complete"]
    kept = {rival.trial.run.path: rival for rival in _once_each(complete)}
    best = ranked([rival.trial for rival in complete])
    return [kept[trial.run.path] for trial in best if trial.run.path in kept][:CANDIDATES]


def _once_each(rivals: Sequence[Rival]) -> list[Rival]:
    """The rivals, with one of those that train the same configuration.

    Of those that differ in the number of epochs, and in the schedule that `refine` gives to longer
    runs, it is the longest that was not cut; of exact repetitions the earliest, since its repeats
    may be trained already.
    """
    searched = {key for rival in rivals for key in rival.recipe.space}
    alike: dict[str, list[Rival]] = {}
    exact: dict[str, Rival] = {}
    for rival in sorted(rivals, key=lambda one: (number_of(one.study), one.trial.run.path.name)):
        config = _configuration(rival)
        one = exact.setdefault(_text(config) or str(rival.trial.run.path), rival)
        if one is rival:
            short = {key: value for key, value in config.items() if key not in LENGTH - searched}
            alike.setdefault(_text(short) or str(rival.trial.run.path), []).append(rival)
    return list(chain.from_iterable(_longest(group) for group in alike.values()))


def _configuration(rival: Rival) -> dict[str, Value]:
    """What a trial was trained with, by key; empty if that cannot be read."""
    try:
        config = rival.trial.run.config()
    except StudyError:  # a newer cnntune wrote it
        return {}
    return flatten({name: part for name, part in config.items() if name not in ("search", "space")})


def _text(config: Mapping[str, Value]) -> str:
    return json.dumps(config, sort_keys=True) if config else ""


def _longest(rivals: Sequence[Rival]) -> list[Rival]:
    """Those of most epochs, of the rivals that were not cut if there are any."""
    whole = [rival for rival in rivals if not rival.cut] or rivals
    most = max(map(_epochs, whole))
    return [rival for rival in whole if _epochs(rival) == most]


def _epochs(rival: Rival) -> float:
    """The epochs of a trial; infinite for a command that runs until its script ends."""
    return rival.recipe.search.epochs or math.inf


def val_images(rivals: Sequence[Rival]) -> int | None:
    """The number of validation images of the rivals; None if none of them records it."""
    counts = (rival.trial.summary.val_images for rival in rivals)
    return next((int(count) for count in counts if count), None)
