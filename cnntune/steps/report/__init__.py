"""A study as a self-contained HTML page: `cnntune report` (lecture step 6).

Style, script and figures are part of the page, and its content security policy forbids all others.
"""

import base64
import hashlib
import math
import shlex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cnntune.steps.report import charts
from cnntune.steps.report.chapter import by_rank, cause
from cnntune.steps.report.story import Story, read
from cnntune.texts import counted

__all__ = ["Story", "page", "read"]

FILES = PackageLoader("cnntune.steps.report", "")


def page(story: Story, *, reload: int | None = None) -> str:
    """The HTML page of a study. All texts that come from the study are escaped.

    With `reload`, a browser loads it again after so many seconds.
    """
    environment = Environment(
        loader=FILES,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "by_rank": by_rank,
        "cause": cause,
        "command": lambda words: shlex.join(["cnntune", *words]),
        "counted": counted,
        "fixed": _fixed,
        "number": _number,
    }
    style, script = (FILES.get_source(environment, name)[0] for name in ("style.css", "sort.js"))
    return environment.get_template("page.html").render(
        story=story,
        reload=reload,
        charts=charts,
        style=Markup(style),
        script=Markup(script),
        script_hash=_content_hash(script),
    )


def _content_hash(script: str) -> str:
    """The hash by which the content security policy allows the script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _fixed(value: float | None) -> str:
    """A loss or an accuracy with four decimals; empty if it is unknown."""
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def _number(value: Any) -> str:
    """A value of a trial, floats with three digits; empty if there is none."""
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else str(value)
    return "" if value is None else str(value)
