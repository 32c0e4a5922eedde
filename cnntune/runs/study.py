"""The folder of a study: what was asked, the last result of each step, its runs.

runs/digits/                 a study
study.json  recipe.toml    what was asked
study.db  server.json      Optuna's study, or where it is on a server
sanity.json ...            the last result of each step
trials.csv  report.html    all trials as a table, as a page
log.txt                    one line per event
trial-0007/                a run, see `cnntune.runs.run`; train-0001/ is one that is no trial
refine-1/                  a round of refinement: a study of its own, with the plan in plan.json
prove/                     the runs of `diagnose --prove`; what they showed is in prove.json
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnntune import __version__
from cnntune.errors import StudyError
from cnntune.runs.files import (
    FORMAT,
    DamagedFileError,
    NoLocksError,
    locked,
    read_json,
    write_by_rename,
    write_json,
    writing_to,
)
from cnntune.runs.run import Run

LIBRARIES = ("torch", "torchvision", "optuna", "numpy")
PROOFS = "prove"  # the folder of the runs that `diagnose --prove` trains
RECORD_LOCK = ".study.lock"  # of study.json, which commands write that need no lock on the study
TEST_LOCK = ".test.lock"  # of test.json: a final test waits for another one, and not for a search


@dataclass(frozen=True)
class Study:
    """The folder of a study."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def run(self, label: str) -> Run:
        """The folder of one run, such as `trial-0007`."""
        return Run(self.path / label)

    def trial(self, number: int) -> Run:
        """The folder of trial `number`."""
        return self.run(f"trial-{number:04d}")

    def write(self, step: str, document: Mapping[str, Any]) -> None:
        """Keep the last result of a step, such as `lr-sweep`.

        Raises:
            StudyError: where nothing can be written there.
        """
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / f"{step}.json", document)

    def read(self, step: str) -> dict[str, Any] | None:
        """The last result of a step, or None.

        Raises:
            StudyError: where the file is damaged, or a newer cnntune wrote it.
        """
        return read_json(self.path / f"{step}.json")

    def write_text(self, name: str, text: str) -> None:
        """Keep a text, such as a table of the trials.

        Raises:
            StudyError: where nothing can be written there.
        """
        with writing_to(self.path):
            write_by_rename(self.path / name, text)

    def record(
        self,
        recipe_toml: str,
        *,
        device: str,
        code: Path | None = None,
        command: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what was asked into `study.json` and `recipe.toml`; earlier commands are kept."""
        about = {"versions": _versions(), "device": device, "commit": _commit()}
        if code is not None:
            about["code"] = str(code)  # where user code lies, to run a trial again
        self._record(command or this_command(), about)
        self.write_text("recipe.toml", recipe_toml)

    def record_command(self, command: Mapping[str, Any]) -> None:
        """Add a command to `study.json` and leave the rest of what was asked as it is."""
        self._record(command, {})

    def _record(self, command: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Read, change and write `study.json` under a lock of its own.

        A command that is listed already is not listed again. Where there are no locks two commands
        at once may lose one of them from the list; a study on a server needs no locks.
        """
        with ExitStack() as held:
            with suppress(NoLocksError):
                held.enter_context(locked(self.path, RECORD_LOCK, waiting=lambda: None))
            known = self.read("study") or {"format": FORMAT, "name": self.name}
            commands = known.setdefault("commands", [])
            if not isinstance(commands, list):
                raise DamagedFileError(f"{self.path / 'study.json'}: commands: must be a list")
            if command not in commands:
                commands.append(dict(command))
            self.write("study", {**known, **about})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the study, whose holder alone writes trials; the kernel frees it.

        Raises:
            StudyError: where another process holds it, or there are no locks.
        """
        with locked(self.path) as ours:
            if not ours:
                raise StudyError(
                    f"{self.path}: this study is locked by another cnntune process; wait for it, or"
                    " use another study: --study NAME"
                )
            yield


def this_command() -> dict[str, Any]:
    """What was typed, and when, as `study.json` lists it; the `id` makes it unique."""
    argv = [without_password(word) for word in sys.argv[1:]]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"argv": argv, "at": at, "id": os.urandom(4).hex()}


def home(config: Path) -> Path | None:
    """The study that a run's `config.json` belongs to; for a refinement the study it refines."""
    if config.suffix != ".json":
        return None
    if len(config.parts) < 3 or ".." in config.parts:  # the folders above have no names in it
        config = config.resolve()
    folder = config.parent.parent
    if folder.name.startswith("refine-") and (folder.parent / "study.json").is_file():
        return folder.parent  # a round of `tune` has no study.json of its own
    return folder if (folder / "study.json").is_file() else None


def without_password(text: str) -> str:
    """`text` with `***` for the password of an address in it."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", text)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # loads all of `email`

    versions = {"cnntune": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """The commit of the working directory, where the user's code usually lies."""
    git = shutil.which("git")
    if git is None:
        return None
    answer = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
