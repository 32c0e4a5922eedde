"""The result of a function: the command's document, its text, and HTML for notebooks."""

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cnntune.api import html
from cnntune.cli import screen
from cnntune.cli.command import Command
from cnntune.findings import Finding, failed
from cnntune.runs.study import Study

Draw = Callable[[screen.Screen], None]


class FailedError(Exception):
    """A result with findings of severity `fail`, which are in `findings`."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = list(findings)
        lines = [
            f"{one.rule}: {one.evidence}{f' -> {one.advice}' if one.advice else ''}"
            for one in findings
        ]
        super().__init__("\n".join(lines))


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a function found: the same as the command of its name prints.

    `document` is the command's JSON document as plain values, `draw` writes the command's text to a
    screen, and `pieces` are the parts of the page that a notebook shows, as HTML. `print(result)`
    writes the text.
    """

    findings: Sequence[Finding]
    document: Mapping[str, Any]
    draw: Draw
    pieces: Sequence[Callable[[], str]]

    @property
    def ok(self) -> bool:
        """Whether no finding is a `fail`."""
        return not failed(self.findings)

    def raise_if_failed(self) -> None:
        """Do nothing if the result is `ok`.

        Raises:
            FailedError: with a line for each finding of severity `fail`.
        """
        if not self.ok:
            raise FailedError([one for one in self.findings if one.severity == "fail"])

    def to_json(self) -> str:
        """The document that the command prints with `--json`: strict JSON, as text."""
        return json.dumps(self.document, indent=2, allow_nan=False)

    @cached_property
    def _text(self) -> str:
        width = shutil.get_terminal_size().columns
        shown = screen.Screen(quiet=True)
        out = io.StringIO()
        shown.out = screen.Result(
            file=out, width=width, highlight=False, color_system=None, force_jupyter=False
        )
        self.draw(shown)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html.page([piece() for piece in self.pieces])


def document_of(
    command: str, findings: Sequence[Finding], study: Study | None = None, **added: Any
) -> dict[str, Any]:
    """The document of a command, as the command itself makes it."""
    return Command(command, True, screen.Screen(quiet=True)).document(findings, study, **added)
