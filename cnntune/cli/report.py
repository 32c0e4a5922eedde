"""A study as one page (step 6)."""

import errno
import os
from pathlib import Path
from typing import Annotated

import typer

from cnntune.cli.command import Command, find_study
from cnntune.cli.options import RUNS, AsJson, Quiet, Runs, StudyArgument
from cnntune.errors import StudyError


def report(
    study: StudyArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write (default: report.html in the study)."),
    ] = None,
    runs: Runs = RUNS,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write all of a study, finished or not, to one self-contained HTML page."""
    command = Command.begin("report", json=json, quiet=quiet)
    found = find_study(study, runs, holding="study.json")
    target = out or found.path / "report.html"
    if not target.parent.is_dir():  # told before the pictures are drawn
        raise StudyError(f"{target}: cannot be written: {os.strerror(errno.ENOENT)}")

    from cnntune.runs.files import write_by_rename
    from cnntune.steps import report as step

    story = step.read(found)
    html = step.page(story)
    try:
        write_by_rename(target, html)
    except OSError as error:
        raise StudyError(f"{target}: cannot be written: {error.strerror}") from None
    if not json:
        command.screen.text(str(target))
    if story.winners_script:
        command.screen.say(f"next: {story.winners_script}")
    elif story.winners_config:
        command.screen.next("train", str(story.winners_config))
    command.end(command.document([], found, report=str(target)))
