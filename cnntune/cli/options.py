"""The options that several commands share, each declared once: its type, its help, how it is read.

What an option does not do in some command stands in its help or in the command's own.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

from cnntune.config import space
from cnntune.errors import StudyError

RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A .toml, a run's config.json, or a shipped recipe such as digits."
        " Left out: ./cnntune.toml if there is one, else digits.",
        show_default=False,
    ),
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
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
    typer.Option(
        min=0,
        help="The recipe's seed: initial weights, order of batches, drawn values.",
        show_default=False,
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic", help="float32, and bitwise identical results in each run, also on GPUs."
    ),
]
Runs = Annotated[Path, typer.Option(metavar="DIR", help="The folder of all studies.")]
Name = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="The study's folder (default: recipe name)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no hints.")]
Tensorboard = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        help="Write TensorBoard event files into each run's folder too, and the values of trials"
        " for its HParams table.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show on stderr each line that log.txt receives."),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Epochs per trial (default: search.epochs; refine: train.epochs if that is more).",
        show_default=False,
    ),
]
Sampler = Annotated[
    space.Sampler | None,
    typer.Option(
        help="How the values of trials are drawn (default: search.sampler).", show_default=False
    ),
]
Pruner = Annotated[
    space.Pruner | None,
    typer.Option(
        help="Which trials end early (default: search.pruner). A refinement prunes nothing.",
        show_default=False,
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        metavar="N|auto", help="Trials trained in parallel; auto: as many as cores or GPUs allow."
    ),
]
RUNS = Path("runs")
SECONDS = {"s": 1, "m": 60, "h": 3600, "": 1}


def parse_count(text: str | int) -> int:
    """`50` as a number of trials.

    Raises:
        typer.BadParameter: where it is not an integer above 0.
    """
    if not str(text).isdecimal() or int(text) == 0:
        raise typer.BadParameter(f"must be a number of trials >= 1 (got {text!r})")
    return int(text)


def parse_seconds(text: str) -> float:
    """`90`, `90s`, `30m` or `2h` as seconds.

    Raises:
        typer.BadParameter: where it is no time above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise typer.BadParameter(f"must be a time > 0, such as 90s, 30m or 2h (got {text!r})")
    return float(match[1]) * SECONDS[match[2]]


Timeout = Annotated[
    float | None,
    typer.Option(
        parser=parse_seconds,
        metavar="TIME",
        help="Stop after this time: 90s, 30m, 2h; seconds without a unit. Trials in training"
        " are cut after their last finished epoch; run the same command again to resume them.",
        show_default=False,
    ),
]


def parse_budget(text: str) -> tuple[int | None, float | None]:
    """`200` as training runs, `2h` as seconds.

    Raises:
        StudyError: where it is neither.
    """
    if text.isdecimal() and int(text) > 0:
        return int(text), None
    try:
        return None, parse_seconds(text)
    except typer.BadParameter:
        allowed = "a number of training runs, or a time such as 90s, 30m or 2h"
        raise StudyError(f"--budget: must be {allowed} (got {text!r})") from None


def search_keys(epochs: int | None, sampler: str | None, pruner: str | None) -> list[str]:
    """The recipe keys that `--epochs`, `--sampler` and `--pruner` set, as `--set` takes them."""
    asked = {"epochs": epochs, "sampler": sampler, "pruner": pruner}
    return [f"search.{key}={value}" for key, value in asked.items() if value is not None]
