"""The console blocks of a documentation page: find them, run them, compare them, rewrite them.

A block is fenced as `console` and starts with `$ command`; the lines below are what the command
prints on stdout, 80 columns wide. A fenced block with `title="FILE"` is a file that stands in the
folder where the commands run. All commands of a page run in the order of the page, in one folder.

Two outputs are compared by their words. Figures depend on the machine: numbers, drawings, where a
line breaks, how many rows a table has, and which verdict stands in a row.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from itertools import groupby
from pathlib import Path
from typing import get_args

from cnntune.diagnosis.rules import Label

COLUMNS = "80"
PATIENCE_SECONDS = 600  # for a command that hangs; none of them needs a fifth of it
PROMPT = "$ "
FENCED = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
# The program that pip installs, except that a warning is an error.
PROGRAM = f"""#!{sys.executable} -Werror
from cnntune.cli import main
if __name__ == "__main__":
    main()
"""

DRAWING = re.compile(r"[\u2500-\u259f\u2800-\u28ff]+")
UNITS = r"(?: ?(?:ms|s|min|h|[KMGT]i?B|[kMGT])\b)?"
SHAPE = r"\d+x\d+(?:x\d+)?"  # 3x32x32
DECIMAL = rf"[+-]?\d+(?:,\d{{3}})*(?:\.\d+)?(?:e[+-]?\d+)?%?{UNITS}"
NUMBER = re.compile(rf"(?<![\w#.])(?:{SHAPE}|{DECIMAL}|[+-]?(?:inf|nan)\b)")
COUNTED = re.compile(r"(?<=[a-z]{2}-)\d+\b")  # trial-0003
SEVERAL = re.compile(r"#(?:[ |,/]+#)+")
VERDICTS = {"decreasing", "slow", "flat", "unstable", "diverged"}  # lr-sweep's, part of its JSON
MEASURED = VERDICTS | set(get_args(Label))


@dataclass(frozen=True)
class Block:
    """One console block: what is typed, what the page says is printed, and where it stands.

    `start` and `end` are the positions in the page of what is printed.
    """

    command: str
    printed: str
    start: int
    end: int

    @property
    def quick(self) -> bool:
        """Whether it needs no training and nothing that an earlier block has trained."""
        return bool(re.search(r" --(help|explain)\b", self.command)) or (
            self.command.startswith("cnntune diagnose ") and "runs" not in self.command
        )


def blocks(page: str) -> list[Block]:
    """The console blocks of a page, in order.

    Raises:
        ValueError: where a console block does not start with a command, or holds two.
    """
    found = []
    for fence in FENCED.finditer(page):
        if fence["kind"] != "console":
            continue
        first, _, printed = fence["text"].partition("\n")
        if not first.startswith(PROMPT) or f"\n{PROMPT}" in fence["text"]:
            raise ValueError(f"a console block holds one command and its output: {first}")
        start = fence.start("text") + len(first) + 1
        found.append(Block(first.removeprefix(PROMPT), printed, start, fence.end("text")))
    return found


def write_files(page: str, folder: Path) -> None:
    """Write the files of a page, those of its blocks with a title, into `folder`."""
    for fence in FENCED.finditer(page):
        if title := TITLE.search(fence["kind"]):
            (folder / title[1]).write_text(fence["text"], encoding="utf-8")


def printed_by(command: str, folder: Path) -> str:
    """What a shell command prints on stdout; lines end where their text does.

    Raises:
        AssertionError: with what it wrote on stderr, where cnntune could not run.
    """
    programs = folder / ".bin"
    programs.mkdir(exist_ok=True)
    program = programs / "cnntune"
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": COLUMNS,
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode in (0, 1), f"{command}: exit code {done.returncode}\n{done.stderr}"
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def rewritten(page: str, outputs: Sequence[str]) -> str:
    """The page with `outputs` in place of what its console blocks print, one for each block."""
    for block, output in reversed(list(zip(blocks(page), outputs, strict=True))):
        page = page[: block.start] + output + page[block.end :]
    return page


def words(printed: str) -> list[str]:
    """What stays the same from machine to machine: the words, `#` in place of each number.

    Rows of a table or a plot are lines with a drawing, or with numbers only. They come last, as
    the sorted words that stand in any of them, without names that hold a number and without
    verdicts.
    """
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    shapes = [SEVERAL.sub("#", NUMBER.sub("#", COUNTED.sub("#", line))) for line in lines]
    rows = {shape for shape in shapes if DRAWING.search(shape) or not re.search(r"\w", shape)}
    prose = " ".join(shape for shape, _ in groupby(s for s in shapes if s not in rows))
    in_rows = {
        word
        for row in rows
        for word in DRAWING.sub(" ", row).split()
        if re.search(r"[a-z]", word) and "#" not in word and word not in MEASURED
    }
    return [*SEVERAL.sub("#", prose).split(), *sorted(in_rows)]


def differences(documented: str, printed: str) -> list[str]:
    """The words that a page documents (`-`) and those that are printed now (`+`), with context."""
    return list(unified_diff(words(documented), words(printed), lineterm="", n=4))[2:]
