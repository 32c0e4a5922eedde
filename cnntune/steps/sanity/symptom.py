"""A symptom: something unusual, whose severity experiments decide."""

from dataclasses import dataclass

from cnntune.findings import Finding, Severity

PIXELS = "the scale of your images"
WEIGHTS = "your initial weights"
DROPOUT = "your dropout"
SQUASHING = "sigmoids or tanhs"
GRADIENTS = "your detached tensors and hooks"
OUTPUT = "what follows your last layer"


@dataclass(frozen=True)
class Symptom(Finding):
    """A finding about what often does damage, and need not.

    `part` is the one whose replacement would repair it, if it is damaged (`Swap.part`; none, if
    nothing can replace it). `least` is its severity where nothing shows damage.
    """

    part: str = ""
    least: Severity = "info"
