"""What every command shares: its set-up, its document and its exit code."""

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from cnntune.cli.log import EventLog
from cnntune.cli.options import RUNS
from cnntune.cli.screen import Screen
from cnntune.errors import RecipeError, StudyError
from cnntune.findings import Finding, failed
from cnntune.runs.files import FORMAT, finite
from cnntune.runs.study import Study, home, this_command
from cnntune.workers import processes

if TYPE_CHECKING:
    import torch

    from cnntune.config.files import RecipeFile
    from cnntune.config.recipe import Recipe
    from cnntune.data import Data


@dataclass(frozen=True)
class Typed:
    """What is known of a command line also where its options cannot be read."""

    verb: str  # empty where there is none
    json: bool

    @classmethod
    def of(cls, words: Sequence[str]) -> "Typed":
        """Of `sys.argv[1:]`; what follows `--` is no option of ours."""
        ours = words[: words.index("--")] if "--" in words else words
        verb = next((word for word in ours if not word.startswith("-")), "")
        return cls(verb, "--json" in ours)


@dataclass
class Command:
    """A command that runs: where it prints, what it logs, and how it ends."""

    name: str
    json: bool
    screen: Screen
    notes: list[Finding] = field(default_factory=list)  # about what was asked, first in `findings`
    log: EventLog = field(default_factory=EventLog)

    @classmethod
    def begin(cls, name: str, *, json: bool, quiet: bool, verbose: bool = False) -> "Command":
        """Called first by every command; what user code prints is no result and goes to stderr.

        Raises:
            RecipeError: where a command is to be quiet and verbose.
        """
        if quiet and verbose:
            raise RecipeError("--verbose: cannot be combined with --quiet")
        screen = Screen(quiet=quiet)
        sys.stdout = sys.stderr
        command = cls(name, json, screen, log=EventLog(screen.say if verbose else None))
        running.set(command)
        return command

    def begin_log(self, study: Study, device: str) -> None:
        """From now on events are appended to the log of `study`, the first with what was typed."""
        self.log.open(study.path, device)
        self.log.write(f"{self.name} started: {shlex.join(['cnntune', *sys.argv[1:]])}")

    def end_log(self, code: int, errors: Sequence[str] = ()) -> None:
        """The last events: what was wrong, and the exit code."""
        for line in errors:
            self.log.write(f"error: {line}")
        self.log.write(f"{self.name} ended with exit code {code}")

    def begin_work(self, line: str) -> None:
        """Say what is about to happen, after what there is to note about what was asked."""
        for text in (*(note.evidence for note in self.notes), line):
            self.screen.say(text)

    def document(
        self, findings: Sequence[Finding], study: Study | None, **added: Any
    ) -> dict[str, Any]:
        """The command's JSON document, as in the contract."""
        findings = [*self.notes, *findings]
        return {
            "format": FORMAT,
            "command": self.name,
            "ok": not failed(findings),
            "findings": [finding.as_json() for finding in findings],
            "study": str(study.path) if study else None,
            **finite(added),
        }

    def end(self, document: dict[str, Any]) -> NoReturn:
        """Log its warnings, print it if it was asked for, and leave with 0, or 1 after a `fail`."""
        for finding in document["findings"]:
            if finding["severity"] in ("warn", "fail"):
                self.log.write(f"{finding['severity']} {finding['rule']}: {finding['evidence']}")
        if self.json:
            self.print(document)
        raise typer.Exit(0 if document["ok"] else 1)

    def print(self, document: dict[str, Any]) -> None:
        """The document on stdout."""
        print(json.dumps(document, indent=2, allow_nan=False), file=self.screen.out.file)


# The command that this process runs, for whoever ends it; None before it has begun.
running: ContextVar[Command | None] = ContextVar("running", default=None)


@dataclass
class Setup:
    """What most commands work on."""

    recipe: "Recipe"
    device_name: str
    trial_devices: tuple[str, ...]  # names, for trials: all GPUs where `cuda` was asked for
    study: Study
    code: Path  # the folder of the recipe and of user code
    again: tuple[str, ...] = ()  # the arguments that lead the next command to the same set-up
    asked: dict[str, Any] = field(
        default_factory=this_command
    )  # recorded once, however often it is passed on
    space_warnings: tuple[Finding, ...] = ()  # for those who search its space

    @property
    def device(self) -> "torch.device":
        """Where this process computes; importing torch takes more than a second."""
        import torch

        return torch.device(self.device_name)


def set_up(
    command: Command,
    source: str | None,
    sets: Sequence[str] | None,
    *,
    device: str,
    seed: int | None,
    runs: Path,
    study: str | None,
    exact: bool = False,
    further: Sequence[str] = (),
    apart: bool = False,
) -> Setup:
    """Read the recipe with its overrides, find the device, name the study.

    Where no recipe is named and none is here, the digits take its place, which is noted, and so it
    is where a recipe names no data. With `apart` another process does what needs torch, and this
    one does not import it.

    Raises:
        RecipeError: where the recipe cannot be used.
        StudyError: where the study's `study.json` is damaged.
    """
    from cnntune.config import files
    from cnntune.user_code import imports

    overrides = [*(sets or []), *further, *([f"seed={seed}"] if seed is not None else [])]
    overrides += ["train.deterministic=true"] if exact else []
    found = files.find(source)
    if source is None and found.path.name != files.OWN:
        text = f"no {files.OWN} here: using the {found.path.stem} recipe"
        command.notes.append(Finding("recipe", "info", text))
    elif (note := _about_data(found, overrides)) is not None:
        command.notes.append(note)
    code = found.code
    imports.add_code_folders(code)  # the workers look for modules where this process does
    if apart:
        opened = processes.call("cnntune.training.open_recipe:opened", found, overrides, device)
    else:
        from cnntune.training import open_recipe

        opened = open_recipe.opened(found, overrides, device)
    loaded, place, places, warnings = opened
    folder = study_folder(runs, study, loaded.name)
    if study is None and (runs == RUNS or command.name == "train"):
        folder = home(found.path) or folder  # a run of a study's trial is one of that study
    Study(folder).read("study")  # hours of work must not end at a damaged file
    again = [source] if source else []
    again += [word for text in overrides for word in ("--set", text)]
    again += ["--runs", str(runs)] if runs != RUNS else []
    again += ["--study", study] if study else []
    return Setup(
        loaded, place, places, Study(folder), code, tuple(again), space_warnings=tuple(warnings)
    )


def _about_data(found: "RecipeFile", overrides: Sequence[str]) -> Finding | None:
    """That a recipe names no images, which may be a file of a search whose command is missing.

    Raises:
        RecipeError: where the file cannot be read.
    """
    from cnntune.config import files

    values = files.read_values(found.path)
    data = values.get("data", {})
    named = [text.partition("=")[0].strip() for text in overrides]
    if "command" in values or "data.name" in named or not isinstance(data, dict) or "name" in data:
        return None
    text = f"{found.name}: has no data.name: using the digits"
    if "space" in values and not {"data", "model", "train"} & set(values):
        text += "; to search over a command, type it after --"
    return Finding("recipe", "info", text)


def study_folder(runs: Path, study: str | None, name: str) -> Path:
    """The folder of the study that `--study` names, else of one with the name of the recipe.

    Raises:
        StudyError: where `--study` is no name of a folder.
    """
    return runs / (_checked_name(study) if study else name)


def _checked_name(name: str) -> str:
    from cnntune.config.recipe import NAME_PATTERN

    if not re.match(NAME_PATTERN, name):
        raise StudyError(
            f"--study: must be letters, digits, '.', '_' and '-', 64 at most (got {name!r})"
        )
    return name


def about(setup: Setup, data: "Data") -> str:
    """The images and the network, in a line, after remarks on how samples were read."""
    from cnntune.training.open_recipe import described

    return described(setup.recipe, setup.device_name, data)


def beside_others(command: Command, setup: Setup, recipe: "Recipe", data: "Data") -> "Recipe":
    """The recipe with its threads written down, fewer where other processes keep the cores busy.

    The reason is shown in a line.
    """
    from cnntune.training import precision

    found, reason = precision.beside_others(recipe, data, setup.device_name)
    if reason:
        command.screen.say(reason)
    return found


def threads_found(command: Command, threads: int, *, fixed: bool) -> int:
    """So many threads, or fewer beside other processes unless the number is fixed."""
    from cnntune.machine import cpus

    found, reason = cpus.threads_beside(
        cpus.load_of_others(),
        threads,
        machine=os.cpu_count() or 1,
        given=threads if fixed else 0,
    )
    if reason:
        command.screen.say(reason)
    return found


def record(setup: Setup) -> None:
    """Write into the study's folder what was asked."""
    setup.study.record(
        setup.recipe.as_toml(), device=setup.device_name, code=setup.code, command=setup.asked
    )


def store(setup: Setup, step: str, document: dict[str, Any]) -> None:
    """Keep a step's result; a study whose search has begun keeps the recipe of the search."""
    if (setup.study.path / "study.db").exists():
        setup.study.record_command(setup.asked)
    else:
        record(setup)
    setup.study.write(step, document)


def find_study(name: str | None, runs: Path, holding: str = "study.db") -> Study:
    """The study that STUDY means: a folder, a name in `runs`, or the last one searched.

    Only folders with a file `holding` count: every study has a `study.json`.

    Raises:
        StudyError: where there is no such study, or it lacks the file.
    """
    if name is None:
        searched = sorted(runs.glob(f"*/{holding}"), key=lambda path: path.stat().st_mtime)
        if not searched:
            raise StudyError(f"{runs}: holds no search; run `cnntune search` first")
        return Study(searched[-1].parent)
    for folder in (Path(name), runs / name):
        if (folder / holding).is_file():
            return Study(folder)
        if folder.is_dir() and (any(folder.glob("trial-*")) or (folder / "study.json").is_file()):
            raise StudyError(
                f"{folder}: holds no {holding}: nothing was searched here, or the file was removed"
            )
    there = sorted(path.parent.name for path in runs.glob(f"*/{holding}"))
    raise StudyError(
        f"{name}: no study of that name in {runs}; there are: {', '.join(there) or 'none'}"
    )
