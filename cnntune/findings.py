"""The result of every check: what was found, how severe it is, and what to do."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["ok", "info", "warn", "fail"]
SEVERITIES: tuple[Severity, ...] = ("ok", "info", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """The result of a rule: the evidence, and advice what to do.

    `measured` and `expected` are the two numbers that `evidence` compares, where there are two.
    """

    rule: str
    severity: Severity
    evidence: str
    advice: str = ""
    where: str = ""
    measured: float | None = None
    expected: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as in `--json`: strict JSON, so without NaN and infinity."""
        values = asdict(self)
        for key in ("measured", "expected"):
            if values[key] is not None and not math.isfinite(values[key]):
                values[key] = None
        return values


def failed(findings: Iterable[Finding]) -> bool:
    """Whether any finding is a `fail`, which is exit code 1."""
    return any(finding.severity == "fail" for finding in findings)
