"""`search SPACE.toml -- COMMAND`: what was typed, checked before anything runs, and who runs it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnntune.cli.command import Command, Setup, study_folder
from cnntune.config import files
from cnntune.config.command import CommandRecipe, CommandSection, parse_command, stored_recipe
from cnntune.config.recipe import Recipe, set_key
from cnntune.config.space import Value
from cnntune.diagnosis.live import Metric
from cnntune.errors import CnntuneError, DeviceError, RecipeError
from cnntune.findings import Finding
from cnntune.machine.cpus import cores
from cnntune.runs.study import Study
from cnntune.script import command as scripts
from cnntune.study.trial import Trial
from cnntune.texts import counted

if TYPE_CHECKING:
    from cnntune.steps.winner import Candidate

EXAMPLE = "cnntune search space.toml -- python train.py --lr {train.lr}"


def typed(recipe: str | None, words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The recipe and the command that were typed; the command is empty where there is none.

    The parser makes arguments of both, without the `--` between them.

    Raises:
        RecipeError: where there is a command without its space, or words too many.
    """
    given = [word for word in (recipe, *words) if word is not None]
    command = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    before = given[: len(given) - len(command)]
    if "--" in sys.argv and not command:
        raise RecipeError(f"--: must be followed by a command: {EXAMPLE}")
    if len(before) > 1:
        raise RecipeError(f"{before[1]}: a command stands behind --: {EXAMPLE}")
    if command and not before and not Path(files.OWN).is_file():
        raise RecipeError(f"--: a command needs a file with its [space]: {EXAMPLE}")
    return next(iter(before), None), command


def refuse_options(words: Sequence[str], options: Mapping[str, object]) -> None:
    """Refuse options that belong to the other kind of search.

    Raises:
        RecipeError: where one was given.
    """
    kind = "trains a recipe: give a command" if not words else "runs a command"
    for name, value in options.items():
        if value:
            raise RecipeError(f"{name}: cannot be used where a search {kind}")


def set_up(
    source: str | None,
    words: Sequence[str],
    sets: Sequence[str],
    *,
    device: str,
    seed: int | None,
    runs: Path,
    study: str | None,
    metric: str,
    override: Sequence[str],
    here: bool,
) -> Setup:
    """The recipe of the command, what its trials may use, and the folder of the study.

    Raises:
        RecipeError: where file, options and command do not fit.
        ScriptError: where the command cannot be started.
        DeviceError: where this machine lacks the device.
    """
    found = files.find(source)
    values = files.read_values(found.path)
    keys = []
    for text in [*sets, *([f"seed={seed}"] if seed is not None else [])]:
        key, value = files.parse_override(text)
        set_key(values, key, value)
        keys.append(key)
    home = Path.cwd()
    if metric and not (Metric.parse(metric) or Metric("")).known:
        raise RecipeError(
            f"--metric: must say which direction is better: {metric}:max or {metric}:min"
        )
    section = CommandSection(
        words=list(words), folder=str(home), here=here, override=list(override), metric=metric
    )
    recipe = parse_command(values, section, file=found.name, overridden=keys)
    scripts.check_startable(recipe.for_trial(_any_values(recipe)).words()[0], home)
    folder = study_folder(runs, study, recipe.name)
    name, devices = devices_of(device)
    again = ("--", *words)
    return Setup(recipe, name, devices, Study(folder), home, again)


def _any_values(recipe: CommandRecipe) -> dict[str, Value]:
    return {key: dimension.at(0.0) for key, dimension in recipe.space.items()}


def devices_of(asked: str) -> tuple[str, tuple[str, ...]]:
    """The name of a device for the log, and those of trials: a GPU each where there are some.

    Raises:
        DeviceError: where the name is unknown, or there is no such GPU.
    """
    there = scripts.gpus(os.environ)
    kind, _, index = asked.partition(":")
    if asked == "cpu":
        return "cpu", ("cpu",)
    if asked in ("auto", "mps") and (not there or asked == "mps"):
        return asked, ("",)  # the command sees what we see
    if kind == "cuda" and index and index in map(str, range(len(there))):
        return asked, (f"gpu:{there[int(index)]}",)
    if (asked == "auto" or asked == "cuda") and there:
        return "cuda", tuple(f"gpu:{one}" for one in there)
    if kind != "cuda" or (index and not index.isdigit()):
        raise DeviceError(f"--device: must be auto, cpu, cuda, cuda:N or mps (got {asked!r})")
    listed = ", ".join(f"cuda:{at}" for at in range(len(there))) or "no CUDA device"
    raise DeviceError(f"--device: {asked} is not available; this machine has {listed}")


def workers_for(command: Command, asked: int | None, devices: Sequence[str]) -> int:
    """How many trials run side by side; their arithmetic shares the cores where there are several.

    What a script needs is not known before it runs: one on each GPU, and one without any.
    """
    gpus = devices[0].startswith("gpu:")
    workers = asked or len(devices)
    if asked is None:
        where = f"one on each of {len(devices)} GPUs" if devices[1:] else "one script at a time"
        command.screen.say(f"{where}; --workers N runs more side by side")
    if workers > 1 and not gpus:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // workers)))
    return workers


def metric_findings(trials: Sequence[Trial]) -> list[Finding]:
    """What trials are ranked by and where it was read, and that they differ where they do."""
    named = list(dict.fromkeys(t.summary.metric for t in trials if t.summary.metric))
    if not named:
        return []
    if not named[1:]:
        return [Finding("metric", "info", f"trials are ranked by {named[0]}")]
    return [
        Finding(
            "metric",
            "warn",
            f"trials are not ranked by the same numbers: {'; '.join(named)}",
            "name the column in a new study: --metric NAME --study NAME",
        )
    ]


def is_command(study: Study) -> bool:
    """Whether a study searches over a command, known before its record is opened."""
    try:
        return "command" in files.read_values(study.path / "recipe.toml")
    except CnntuneError:
        return False


def length_of(recipe: Recipe) -> str:
    """How long a trial is, in words."""
    epochs = recipe.search.epochs
    return counted(epochs, "epoch") if epochs else "the whole script"


def say_next(command: Command, chosen: "Candidate") -> None:
    """How the winner is trained: by `train`, or by the command of its trial."""
    recipe = stored_recipe(chosen.rival.trial.run.config(), file=str(chosen.config))
    if isinstance(recipe, CommandRecipe):
        command.screen.say(f"next: {recipe.line()}")
    else:
        command.screen.next("train", str(chosen.config))
