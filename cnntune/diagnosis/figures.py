"""One figure per run, for reports and issues: losses above, accuracies below (matplotlib)."""

from pathlib import Path
from typing import TYPE_CHECKING

from cnntune.diagnosis.curve import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = (7.0, 5.0)  # 1050x750 pixels at the resolution below
DOTS_PER_INCH = 150


def save_curves(curve: Curve, path: Path, *, title: str, best_epoch: float | None) -> None:
    """Write the curves as a PNG; panels without any number are left out."""
    from matplotlib.figure import Figure  # takes 0.3 s, and only figures need it

    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)  # a path may hold a $
    draw_curves(figure, curve, best_epoch=best_epoch)
    figure.savefig(path)


def draw_curves(figure: "Figure", curve: Curve, *, best_epoch: float | None) -> None:
    """Draw the panels into `figure`."""
    panels = {
        what: {name: curve.series(f"{name}_{what}") for name in ("train", "val")}
        for what in ("loss", "acc")
    }
    shown = {what: lines for what, lines in panels.items() if any(map(len, lines.values()))}
    for position, (what, lines) in enumerate(shown.items(), 1):
        axes = figure.add_subplot(len(shown), 1, position)
        for (name, line), style in zip(lines.items(), ("--", "-"), strict=True):
            if len(line):
                dots = "." if len(line) < 40 else None
                axes.plot(line.epochs, line.values, style, marker=dots, label=name)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best: {best_epoch:g}")
        axes.set_ylabel({"loss": "loss", "acc": "accuracy"}[what])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    if shown:
        axes.set_xlabel(curve.unit)
