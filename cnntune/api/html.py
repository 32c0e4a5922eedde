"""HTML for notebooks: findings and curves, in the colours of the page they stand in.

Text has the notebook's own colour and lines have colours of middle lightness, so that both can be
read on a light and on a dark background. All text is escaped.
"""

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby

from cnntune.diagnosis.curve import Curve, Series
from cnntune.findings import Finding, Severity

WIDTH, HEIGHT = 320, 180  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 22, 24  # margins for numbers and the title
MAX_POINTS = 500  # per line: more than a chart has pixels
LARGE = 1e4  # times the least value: a loss that exploded would hide the rest of its curve
TRAIN, VAL = "#8a8f98", "#1f8fd6"  # a contrast of 3 : 1 and more with white and with #111
COLOURS: dict[Severity, str] = {
    "ok": "#2e9e4f",
    "info": "#1f8fd6",
    "warn": "#c27c0e",
    "fail": "#d8484a",
}
SPARK_WIDTH, SPARK_HEIGHT = 200, 36  # of a line in a table
CELL = "text-align:left;padding:.1em .8em .1em 0"
RATE_COLUMNS = ("lr", "loss", "first", "last", "verdict")
STYLE = "max-width:48em;font-size:14px;line-height:1.45"


def page(pieces: Sequence[str]) -> str:
    """The parts of a result below each other."""
    return f'<div style="{STYLE}">{"".join(pieces)}</div>'


def heading(name: str, detail: str = "") -> str:
    """A title, and beside it what is less important."""
    beside = f' <span style="opacity:.65">{escape(detail)}</span>' if detail else ""
    return f'<p style="margin:.4em 0"><b>{escape(name)}</b>{beside}</p>'


def finding(found: Finding, advice: Sequence[str] | None = None) -> str:
    """A finding: severity and rule, evidence, and a list of what to do."""
    lines = [found.advice] if advice is None and found.advice else list(advice or ())
    todo = "".join(f"<li>{escape(line)}</li>" for line in lines)
    listed = f'<ul style="margin:.2em 0 .2em 1.2em;padding:0">{todo}</ul>' if todo else ""
    mark = f'<b style="color:{COLOURS[found.severity]}">{found.severity}</b> {escape(found.rule)}: '
    return f'<div style="margin:.4em 0">{mark}{escape(found.evidence)}{listed}</div>'


def note(text: str) -> str:
    """What is worth knowing beside a result."""
    return f'<p style="margin:.3em 0;opacity:.7">{escape(text)}</p>'


def code(text: str) -> str:
    """A command to copy."""
    return f'<pre style="margin:.3em 0;white-space:pre-wrap">{escape(text)}</pre>'


def curves(curve: Curve, best_epoch: float | None) -> str:
    """The losses and the accuracies of a run, each where it was logged, as inline SVG."""
    charts = []
    for what, title in (("loss", "loss"), ("acc", "accuracy")):
        lines = {
            name: series
            for name in ("train", "val")
            if len(series := curve.series(f"{name}_{what}"))
        }
        if lines:
            charts.append(_chart(title, lines, best_epoch))
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(charts)}</div>'


def rates(rows: Sequence[tuple[str, Sequence[float], str, str, str]], top: float) -> str:
    """A table of learning rates: rate, curve of the losses from 0 to `top`, ends, verdict."""
    heads = "".join(f'<th style="{CELL}">{name}</th>' for name in RATE_COLUMNS)
    body = "".join(
        "<tr>"
        + f'<td style="{CELL}">{escape(lr)}</td><td style="{CELL}">{_spark(losses, top)}</td>'
        + "".join(f'<td style="{CELL}">{escape(text)}</td>' for text in (first, last, verdict))
        + "</tr>"
        for lr, losses, first, last, verdict in rows
    )
    return f'<table style="border-collapse:collapse"><tr>{heads}</tr>{body}</table>'


def _spark(losses: Sequence[float], top: float) -> str:
    """The losses as a line; what is above `top` or not finite is left out."""
    across = (SPARK_WIDTH - 4) / max(1, len(losses) - 1)
    points = [
        (2 + across * at, 2 + (SPARK_HEIGHT - 4) * (1 - loss / top))
        for at, loss in enumerate(losses)
    ]
    drawn = "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for (x, y), _ in group)
        for inside, group in groupby(
            zip(points, losses, strict=True), lambda one: math.isfinite(one[1]) and one[1] <= top
        )
        if inside
    )
    return (
        f'<svg viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" width="{SPARK_WIDTH}"'
        f' height="{SPARK_HEIGHT}" role="img" aria-label="loss per step"><path d="{drawn}"'
        f' fill="none" stroke="{VAL}" stroke-width="1.5" stroke-linecap="round"/></svg>'
    )


def _chart(title: str, lines: dict[str, Series], best_epoch: float | None) -> str:
    epochs = [epoch for line in lines.values() for epoch in line.epochs]
    finite = sorted(v for line in lines.values() for v in line.values if math.isfinite(v))
    top = LARGE * max(abs(finite[0]), 1e-12) if finite else 1.0
    values = [value for value in finite if value <= top] or [0.0]
    left, right, low, high = min(epochs), max(epochs), min(values), max(values)

    def across(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * _share(epoch, left, right)

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(value, low, high)

    parts = [
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none"'
        ' stroke="currentColor" stroke-opacity=".4"/>',
        *(_text(LEFT - 4, down(v) + 4, f"{v:.3g}", "end") for v in sorted({low, high})),
        *(_text(across(e), HEIGHT - 8, f"{e:g}", "middle") for e in sorted({left, right})),
    ]
    if best_epoch is not None and left <= best_epoch <= right:
        at = across(best_epoch)
        parts.append(
            f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="currentColor"'
            f' stroke-opacity=".5" stroke-dasharray="2 3"><title>best epoch {best_epoch:g}</title>'
            "</path>"
        )
    legend = LEFT + 8 * len(title) + 16
    for (name, line), colour, dash in zip(
        lines.items(), (TRAIN, VAL)[-len(lines) :], ("5 3", "")[-len(lines) :], strict=True
    ):
        step = math.ceil(len(line) / MAX_POINTS)
        shown = list(zip(line.epochs, line.values, strict=True))[::step]
        drawn = "".join(
            "M" + "L".join(f"{across(e):.1f} {down(v):.1f}" for e, v in group)
            for inside, group in groupby(shown, lambda p: math.isfinite(p[1]) and p[1] <= top)
            if inside
        )
        parts.append(
            f'<path d="{drawn}" fill="none" stroke="{colour}" stroke-width="2"'
            f' stroke-dasharray="{dash}" stroke-linecap="round"/>'
        )
        parts.append(_text(legend, 14, name, "start", colour))
        legend += 8 * len(name) + 14
    parts.append(_text(LEFT, 14, title, "start"))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
        f' aria-label="{escape(title)} per epoch" style="max-width:100%;font:11px sans-serif">'
        f"{''.join(parts)}</svg>"
    )


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _text(x: float, y: float, words: str, anchor: str, colour: str = "currentColor") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(words)}</text>"
    )
