"""Labels and advice for learning curves (step 6)."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntune.cli.command import Command
from cnntune.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from cnntune.diagnosis.judge import JudgedRun


def diagnose(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Runs, studies, logs of other tools, or folders of them."
        ),
    ],
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="CURVE=COLUMN", help="A log's column: val_loss=my_loss."),
    ] = None,
    fail_on: Annotated[
        str, typer.Option(metavar="LABEL,...", help="Exit 1 if a run has one of these labels.")
    ] = "",
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture of each run to this folder.")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 6: still improving, overfitting or underfitting? And what to change next."""
    command = Command.begin("diagnose", json=json, quiet=quiet)

    from cnntune.diagnosis import judge

    mapping, labels = judge.parse_mapping(map_ or ()), judge.parse_labels(fail_on)
    judged, skipped = judge.judge_paths(paths, mapping)
    findings = [run.finding(labels) for run in judged]
    if png is not None:
        _draw(judged, png)
    document = command.document(
        findings, None, runs=[run.as_json() for run in judged], skipped=skipped
    )
    if not json:
        command.screen.diagnoses(judged)
        for entry in skipped:
            command.screen.text(f"skipped {entry['path']}: {entry['reason']}")
    for remark in judge.remarks(judged):
        command.screen.say(remark)
    command.end(document)


def _draw(judged: "Sequence[JudgedRun]", folder: Path) -> None:
    """One picture per run, named after its path so that no two share a name."""
    from cnntune.diagnosis.figures import save_curves

    folder.mkdir(parents=True, exist_ok=True)
    for run in judged:
        name = re.sub(r"[^\w.#-]+", "_", os.path.relpath(run.path)).strip("_.")
        diagnosis = run.diagnosis
        title = f"{run.path}\n{diagnosis.label}: {diagnosis.evidence}"
        picture = folder / f"{name}.png"
        save_curves(run.curve, picture, title=title, best_epoch=diagnosis.best_epoch)
