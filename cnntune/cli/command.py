"""What every command shares: its options, its set-up, its document and its exit code."""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cnntune.cli.screen import Screen
from cnntune.errors import StudyError
from cnntune.findings import Finding, failed
from cnntune.runs.files import FORMAT, finite
from cnntune.runs.study import Study, home, this_command
from cnntune.workers import processes

if TYPE_CHECKING:
    import torch

    from cnntune.config.recipe import Recipe
    from cnntune.data import Data

RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A .toml, a run's config.json, or a shipped recipe such as digits."
        " Left out: ./cnntune.toml if there is one, else digits.",
        show_default=False,
    ),
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]",
        help="A study's folder or its name in --runs. Left out: the last study searched.",
        show_default=False,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe key: --set train.lr=0.01"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="The recipe's seed: weights, batches, draws.", show_default=False),
]
Exact = Annotated[
    bool,
    typer.Option("--deterministic", help="float32, and the same bits in each run, on a GPU too."),
]
Runs = Annotated[Path, typer.Option(metavar="DIR", help="Where studies are kept.")]
Name = Annotated[
    str | None,
    typer.Option(
        "--study", metavar="NAME", help="The study's folder; the recipe's name if left out."
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A PostgreSQL server that several machines share: postgresql://user@host/database.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no hints.")]
Workers = Annotated[
    str,
    typer.Option(metavar="N|auto", help="Trial processes; auto: as many as cores or GPUs hold."),
]
RUNS = Path("runs")
UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}  # seconds


def _seconds(text: str) -> float:
    """`90`, `90s`, `30m` or `2h` as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise typer.BadParameter(f"must be a time > 0, such as 90s, 30m or 2h (got {text!r})")
    return float(match[1]) * UNITS[match[2]]


def parse_budget(text: str) -> tuple[int | None, float | None]:
    """`200` as training runs, `2h` as seconds.

    Raises:
        StudyError: where it is neither.
    """
    if text.isdecimal() and int(text) > 0:
        return int(text), None
    try:
        return None, _seconds(text)
    except typer.BadParameter:
        allowed = "a number of training runs, or a time such as 90s, 30m or 2h"
        raise StudyError(f"--budget: must be {allowed} (got {text!r})") from None


Timeout = Annotated[
    float | None,
    typer.Option(
        parser=_seconds,
        metavar="TIME",
        help="Stop after this time: 90s, 30m, 2h. Trials in training are cut after their last"
        " finished epoch; the same command goes on with them.",
        show_default=False,
    ),
]


@dataclass
class Command:
    """A command that runs: where it prints, and how it ends."""

    name: str
    json: bool
    screen: Screen
    notes: list[Finding] = field(default_factory=list)  # about what was asked, first in `findings`

    @classmethod
    def begin(cls, name: str, *, json: bool, quiet: bool) -> "Command":
        """Called first by every command. What own code prints is no result and goes to stderr."""
        screen = Screen(quiet=quiet)
        sys.stdout = sys.stderr
        return cls(name, json, screen)

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
        """Print the document if it was asked for, and leave with 0, or 1 after a `fail`."""
        if self.json:
            self.print(document)
        raise typer.Exit(0 if document["ok"] else 1)

    def print(self, document: dict[str, Any]) -> None:
        """The document on stdout."""
        print(json.dumps(document, indent=2, allow_nan=False), file=self.screen.out.file)


@dataclass
class Setup:
    """What most commands work on."""

    recipe: "Recipe"
    place: str  # the device's name
    places: tuple[str, ...]  # of the devices that take trials: for `cuda` all GPUs
    study: Study
    code: Path  # where the recipe lies, and own modules with it
    again: tuple[str, ...] = ()  # the arguments that lead the next command to the same set-up
    asked: dict[str, Any] = field(default_factory=this_command)  # recorded once, however often told
    space_warnings: tuple[Finding, ...] = ()  # for those who search its space

    @property
    def device(self) -> "torch.device":
        """Where this process computes; importing torch takes more than a second."""
        import torch

        return torch.device(self.place)


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

    Where no recipe is named and none is here, the digits take its place, which is noted. With
    `apart` another process does what needs torch, and this one does not import it.

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
    code = found.code
    imports.add_code_folders(code)  # the workers look for modules where this process does
    if apart:
        opened = processes.call("cnntune.training.open_recipe:opened", found, overrides, device)
    else:
        from cnntune.training import open_recipe

        opened = open_recipe.opened(found, overrides, device)
    loaded, place, places, warnings = opened
    folder = runs / (_checked_name(study) if study else loaded.name)
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


def _checked_name(name: str) -> str:
    import re

    from cnntune.config.recipe import NAME_PATTERN

    if not re.match(NAME_PATTERN, name):
        raise StudyError(
            f"--study: must be letters, digits, '.', '_' and '-', 64 at most (got {name!r})"
        )
    return name


def about(setup: Setup, data: "Data") -> str:
    """The images and the network, in a line, after what was done to read samples of own code."""
    from cnntune.training.open_recipe import described

    return described(setup.recipe, setup.place, data)


def beside_others(command: Command, setup: Setup, recipe: "Recipe", data: "Data") -> "Recipe":
    """The recipe with its threads written down, fewer where other processes keep the cores busy.

    Told in a line.
    """
    from cnntune.training import precision

    found, reason = precision.beside_others(recipe, data, setup.place)
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
        setup.recipe.as_toml(), device=setup.place, code=setup.code, command=setup.asked
    )


def store(setup: Setup, step: str, document: dict[str, Any]) -> None:
    """Keep a step's result; a study whose search has begun keeps the recipe of the search."""
    if (setup.study.path / "study.db").exists():
        setup.study.record_command(setup.asked)
    else:
        record(setup)
    setup.study.write(step, document)
