"""`cnntune.observe`: the checks of a training loop, while it runs in this process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch

from cnntune.api import html
from cnntune.api.result import Result, document_of
from cnntune.api.words import findings_in_python
from cnntune.cli.screen import Screen
from cnntune.errors import DataError
from cnntune.findings import Finding
from cnntune.script import observer, rules
from cnntune.script.record import Record


@dataclass
class Recorded:
    """Holds the record once the observation has ended."""

    record: Record = field(default_factory=lambda: Record([]))


@contextmanager
def observing(*, experiments: bool) -> Iterator[Recorded]:
    """Observe this thread within the block: hooks are put into torch, and removed afterwards.

    With `experiments`, copies of what was seen are trained at the end.

    Raises:
        DataError: where this process is observed already.
    """
    if observer.UNDO:
        raise DataError("observe: this process is observed already; one block at a time")
    found = Recorded()
    observer.begin_here(torch)
    try:
        yield found
    finally:
        document = observer.end_here(torch if experiments else None)
        found.record = Record.of(json.loads(json.dumps(document, default=str)))


class Observed:
    """What was seen of a loop: `with cnntune.observe() as seen: train(...)`.

    After the block it is a result like that of `cnntune.sanity`: `findings`, `ok`,
    `raise_if_failed()`, `document`, text and HTML.
    """

    def __init__(self) -> None:
        self._context = observing(experiments=True)
        self._recorded: Recorded | None = None
        self._result: Result | None = None

    def __enter__(self) -> Self:
        self._recorded = self._context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What the loop raises is passed on, after the hooks are removed.
        self._context.__exit__(None, None, None)
        assert self._recorded is not None
        self._result = judged(self._recorded.record, raised=error)

    @property
    def result(self) -> Result:
        """The result.

        Raises:
            DataError: where the block has not ended.
        """
        if self._result is None:
            raise DataError("observe: findings exist once the with block has ended")
        return self._result

    @property
    def findings(self) -> Sequence[Finding]:
        """What the rules found."""
        return self.result.findings

    @property
    def document(self) -> Mapping[str, Any]:
        """The document that `cnntune sanity --json -- COMMAND` prints, as plain values."""
        return self.result.document

    @property
    def ok(self) -> bool:
        """Whether no finding is a `fail`."""
        return self.result.ok

    def raise_if_failed(self) -> None:
        """Do nothing if the result is `ok`.

        Raises:
            FailedError: with a line for each finding of severity `fail`.
        """
        self.result.raise_if_failed()

    def to_json(self) -> str:
        """The document as text: strict JSON."""
        return self.result.to_json()

    def __str__(self) -> str:
        return str(self._result) if self._result is not None else "observing"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.result._repr_html_() if self._result is not None else html.heading("observing")


def observe() -> Observed:
    """Observe a training loop in this process, and judge it when the block ends.

    Hooks are put into torch for the block and removed after it: forward passes, losses, backward
    passes, optimizers, schedulers, loaders. They draw no random number and change none, so that the
    loop computes the same bits. The loop runs as it is, to its end. Then copies of the model are
    trained on the batches that were seen, for a few seconds.

    Raises:
        DataError: where this process is observed already.
    """
    return Observed()


def judged(record: Record, *, raised: BaseException | None = None) -> Result:
    """The result of a record."""
    findings = rules.judge(record)
    if not record.steps and not record.all("backward"):
        text = "no loss was differentiated and no optimizer stepped within the block"
        findings.insert(0, Finding("loop", "warn", text, "put the training loop into the block"))
    elif not any(one.severity in ("warn", "fail") for one in findings):
        text = f"nothing wrong was found in {record.steps} steps ({len(rules.RULES)} rules)"
        findings.insert(0, Finding("loop", "ok", text))
    findings = findings_in_python(findings)
    about = {
        "command": None,
        "steps": record.steps,
        "stopped": "raised" if raised is not None else record.reason,
        "framework": record.framework or None,
    }
    document = document_of("sanity", findings, script=about)
    detail = f"{record.steps} steps in {record.seconds:.0f} s"
    return Result(
        findings,
        document,
        partial(_draw, detail, findings),
        [partial(_shown, detail, findings)],
    )


def placed(finding: Finding) -> Finding:
    """The finding with its line of the user's code in front of the evidence."""
    if not finding.where:
        return finding
    return replace(finding, where="", evidence=f"{finding.where}: {finding.evidence}")


def _draw(detail: str, findings: Sequence[Finding], screen: Screen) -> None:
    screen.title("the training loop")
    screen.text(detail)
    screen.findings([placed(one) for one in findings])


def _shown(detail: str, findings: Sequence[Finding]) -> str:
    lines = [html.finding(placed(one)) for one in findings]
    return "".join((html.heading("the training loop", detail), *lines))
