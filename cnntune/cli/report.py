"""A study as one page (step 6)."""

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cnntune.cli.command import Command, find_study
from cnntune.cli.options import RUNS, AsJson, Quiet, Runs, StudyArgument
from cnntune.errors import StudyError

if TYPE_CHECKING:
    from cnntune.runs.study import Study

WATCH_SECONDS = 5  # between two looks at the study, and of the open page


def report(
    study: StudyArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write (default: report.html in the study)."),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Write the page again whenever the study has changed, until Ctrl-C; an open page"
            " reloads itself.",
        ),
    ] = False,
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

    from cnntune.steps import report as step

    if watch:
        command.screen.say(f"{target}: written again with each change of {found.path}, to Ctrl-C")
        _watch(found, target)
    story = step.read(found)
    _write(target, step.page(story))
    if not json:
        command.screen.text(str(target))
    if story.winners_script:
        command.screen.say(f"next: {story.winners_script}")
    elif story.winners_config:
        command.screen.next("train", str(story.winners_config))
    command.end(command.document([], found, report=str(target)))


def _write(target: Path, html: str) -> None:
    from cnntune.runs.files import write_by_rename

    try:
        write_by_rename(target, html)
    except OSError as error:
        raise StudyError(f"{target}: cannot be written: {error.strerror}") from None


def _watch(study: "Study", target: Path) -> NoReturn:
    """Write the page whenever a file of the study has changed; Ctrl-C writes the last one."""
    from cnntune.steps import report as step

    seen = None
    try:
        while True:
            state = _state(study.path, target)
            if state != seen:
                _write(target, step.page(step.read(study), reload=WATCH_SECONDS))
                seen = state
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        _write(target, step.page(step.read(study)))
        raise


def _state(folder: Path, target: Path) -> list[tuple[str, int]]:
    """The files of a study, without the page, with the time of their last change in ns."""
    found, ours = [], target.resolve()
    for path in folder.resolve().rglob("*"):
        with suppress(OSError):  # removed, or replaced by rename
            if path.is_file() and path != ours:
                found.append((str(path), path.stat().st_mtime_ns))
    return sorted(found)
