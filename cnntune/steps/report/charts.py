"""A study's figures as inline SVG that adopts the colours of the page (matplotlib)."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cnntune.config.space import Choice, Dimension, Range
from cnntune.diagnosis.figures import draw_curves
from cnntune.diagnosis.load_runs import curve_of
from cnntune.runs.run import Epoch, best_epoch
from cnntune.steps.report.chapter import Chapter
from cnntune.study.trial import ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # placeholder for the page's text colour, which is light or dark
LINES = (("#3b82c4", "-"), ("#d9822b", "--"), ("#3f9e6e", "-."))  # visible on light and on dark
THIN, THICK = 0.7, 2.0  # points
SIDE = 4.6  # inches: two figures fit side by side on a wide page
SMALL = 2.6  # inches, for one key of a space
NAME_LENGTH = 12  # characters of an option: longer ones would overlap
MAX_LETTERS = 22  # of all options together, side by side below a small figure
MAX_TICKS = 4  # labelled ones below a small figure


def run_curve(rows: Sequence[Epoch], name: str) -> Markup:
    """Losses and accuracies of one run."""
    best = best_epoch(list(rows))
    with _style(f"run {name}"):
        figure = _figure(SIDE * 1.5, SIDE)
        draw_curves(figure, curve_of(rows), best_epoch=best.epoch if best else None)
        for axes in figure.axes:
            _epoch_axis(axes, len(rows))
        return _svg(figure, f"train and validation curves of {name}")


def all_curves(chapter: Chapter) -> Markup:
    """The validation accuracy of every trial, the best three with colour, dash and name."""
    best = [trial.number for trial in ranked(chapter.trials) if trial.number in chapter.curves]
    named = best[: len(LINES)]
    with _style(f"{chapter.title} curves"):
        figure = _figure(SIDE, SIDE * 0.75)
        axes = figure.add_subplot()
        for number, rows in chapter.curves.items():
            if number not in named:
                epochs, accs = _finite(rows)
                dot = "." if len(epochs) == 1 else None  # a line of one point is invisible
                axes.plot(epochs, accs, color=INK, alpha=0.3, linewidth=THIN, marker=dot)
        for number, (color, dash) in zip(named, LINES, strict=False):
            epochs, accs = _finite(chapter.curves[number])
            look: dict[str, Any] = {"color": color, "linewidth": THICK, "marker": "."}
            axes.plot(epochs, accs, dash, label=f"trial {number}", **look)
        _label(axes, "epoch", _ranked_by(chapter))
        _epoch_axis(axes, max(map(len, chapter.curves.values()), default=1))
        if named:
            axes.legend(fontsize=8)
        return _svg(figure, "validation accuracy of all trials over the epochs")


def key_scatter(chapter: Chapter, key: str) -> Markup:
    """The validation accuracy of each trial over its value of one key.

    Crosses are trials that diverged or failed.
    """
    dimension = chapter.recipe.space[key]
    having = [trial for trial in chapter.trials if key in trial.values]
    known = [trial.score for trial in having if math.isfinite(trial.score)]
    lowest = min(known, default=0.0)
    blue, orange = LINES[0][0], LINES[1][0]
    looks: dict[str, dict[str, Any]] = {
        "complete": {"marker": "o", "color": blue},
        "pruned": {"marker": "o", "facecolors": "none", "edgecolors": blue},
        "diverged": {"marker": "x", "color": orange},
        "failed": {"marker": "x", "color": orange},
    }
    with _style(f"{chapter.title} {key}"):
        figure = _figure(SMALL, SMALL * 0.85)
        axes = figure.add_subplot()
        for status, look in looks.items():
            found = [trial for trial in having if trial.status == status]
            positions = [_position(dimension, trial.values[key]) for trial in found]
            axes.scatter(positions, [max(trial.score, lowest) for trial in found], s=14, **look)
        if isinstance(dimension, Choice):
            names = [str(option)[:NAME_LENGTH] for option in dimension.options]
            crowded = sum(map(len, names)) > MAX_LETTERS
            turned: dict[str, Any] = {"rotation": 40, "ha": "right"} if crowded else {}
            axes.set_xticks(range(len(names)), names, parse_math=False, **turned)
            axes.set_xlim(-0.5, len(names) - 0.5)
        elif dimension.log:
            _log_axis(axes, dimension, [float(trial.values[key]) for trial in having])
        else:
            axes.locator_params(axis="x", nbins=MAX_TICKS)
        if not ranked(having):
            axes.set_ylim(-0.05, 1)
        short = {"validation accuracy": "val acc"}
        _label(axes, key, short.get(name := _ranked_by(chapter), name))
        return _svg(figure, f"validation accuracy over {key}")


def sweep(curves: Sequence[Mapping[str, Any]], picked: float | None) -> Markup:
    """The losses of a sweep, one line per learning rate, up to 1.3 times the first loss."""
    with _style("sweep"):
        figure = _figure(SIDE, SIDE * 0.75)
        axes = figure.add_subplot()
        for curve in curves:
            losses = [math.nan if loss is None else loss for loss in curve["losses"]]
            chosen = curve["lr"] == picked
            width = THICK if chosen else THIN
            label = f"{curve['lr']:.2g}{' (picked)' if chosen else ''}"
            axes.plot(range(1, len(losses) + 1), losses, linewidth=width, label=label)
        firsts = [curve["loss_first"] for curve in curves if curve["loss_first"] is not None]
        axes.set_ylim(0, 1.3 * max(firsts, default=1.0))
        _label(axes, "iteration", "loss")
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return _svg(figure, "training loss over the iterations for each learning rate")


def _position(dimension: Dimension, value: Any) -> float:
    """The position of a value on the axis: options are at 0, 1, 2."""
    if isinstance(dimension, Range):
        return float(value)
    return float(dimension.options.index(value)) if value in dimension.options else -1.0


def _finite(rows: Sequence[Epoch]) -> tuple[list[int], list[float]]:
    """Epochs and scores, which are accuracies, without those that are not finite."""
    kept = [row for row in rows if math.isfinite(row.score)]
    return [row.epoch for row in kept], [row.score for row in kept]


def _ranked_by(chapter: Chapter) -> str:
    """What the trials are compared by; a script may log no accuracy."""
    ranks = ranked(chapter.trials)
    if own := chapter.ranked:
        scaled = ", as a fraction" if abs(own.times) != 1 else ""
        return f"{'-' if own.times < 0 and not own.plus else ''}{own.name}{scaled}"
    return "-loss" if ranks and ranks[0].summary.val_acc is None else "validation accuracy"


def _label(axes: "Axes", across: str, up: str) -> None:
    axes.set_xlabel(across, parse_math=False)
    axes.set_ylabel(up)
    axes.grid(color=INK, alpha=0.15)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _log_axis(axes: "Axes", dimension: Range, values: Sequence[float]) -> None:
    """Scale the axis to the whole range and the values outside of it, with a few labelled ticks.

    Ticks are powers of ten, or the ends of the range if it contains fewer than two of them.
    """
    from matplotlib.ticker import NullFormatter

    first, last = math.log10(dimension.low), math.log10(dimension.high)
    powers = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    shown = powers[:: math.ceil(len(powers) / MAX_TICKS)] if len(powers) > 1 else ()
    ticks = [10.0**power for power in shown] or [dimension.low, dimension.high]
    margin = (dimension.high / dimension.low) ** 0.05
    shown_values = [dimension.low, dimension.high, *values]
    axes.set_xlim(min(shown_values) / margin, max(shown_values) * margin)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [_plain(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain(number: float) -> str:
    """A number with three digits, as short as possible: `0.01`, `1e-5`."""
    return re.sub(r"e([+-])0*", lambda found: f"e{found[1]}".replace("+", ""), f"{number:.3g}")


def _epoch_axis(axes: "Axes", last: int) -> None:
    """Ticks at whole epochs, even if there is only one."""
    from matplotlib.ticker import MaxNLocator

    margin = 0.5 if last == 1 else 0.05 * (last - 1)
    axes.set_xlim(1 - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # takes 0.3 s, and only figures need it

    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """Settings for text in the page's font and colour; `salt` makes element ids unique."""
    from matplotlib import rc_context

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.size": 9,
        "legend.frameon": False,
    }
    with rc_context(settings | dict.fromkeys(inked, INK)):
        yield


def _svg(figure: "Figure", description: str) -> Markup:
    """The figure as an SVG element without a height, so that a narrow page can shrink it."""
    out = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    body = out.getvalue().partition("<svg ")[2].replace(INK, "currentColor")
    body = re.sub(r'(width|height)="[\d.]+pt" ', "", body, count=2)
    body = re.sub(
        r' id="[a-z]+\w*_\d+"', "", body
    )  # ids such as axes_1 occur in each figure, and are not used
    look = Markup('style="width: {:.1f}in" role="img" aria-label="{}"')
    return Markup("<svg {} {}").format(
        look.format(figure.get_figwidth(), description), Markup(body)
    )
