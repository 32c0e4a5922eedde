"""What a trained copy of a model does with batches that were seen, and what the batches are like.

Like the observer it runs in the Python of the script, and needs the standard library and `torch`
alone. Nothing is learned here: outputs are compared before and after a change of the inputs, and
inputs with targets. It returns numbers; the rules say what they mean. Its modules import each other
relatively, as those of the observer do, since it is loaded under another name there.
"""

from __future__ import annotations

import time
from typing import Any

from .answers import Shown
from .batches import mixed, unused
from .goals import agreement, pairs
from .pictures import flips, pictures
from .sequences import future, padding
from .tables import columns, scales

__all__ = [
    "Shown",
    "agreement",
    "columns",
    "flips",
    "future",
    "mixed",
    "padding",
    "pairs",
    "pictures",
    "run",
    "scales",
    "unused",
]


def run(
    model: Any, train: list[Shown], validation: list[Shown], torch: Any, until: float
) -> dict[str, Any]:
    """All probes, each by itself: one that raises is left out."""
    found: dict[str, Any] = {}
    probes: list[tuple[str, Any]] = [
        ("pictures", lambda: pictures(train, torch)),
        ("scales", lambda: scales(train, validation, torch)),
        ("columns", lambda: columns(train, torch)),
        ("padding", lambda: padding(train, torch)),
    ]
    if model is not None:
        probes += [
            ("flips", lambda: flips(model, train, torch)),
            ("mixed", lambda: mixed(model, train, torch)),
            ("unused", lambda: unused(model, train, torch)),
            ("future", lambda: future(model, train, torch)),
            ("agreement", lambda: agreement(model, train, torch)),
            ("pairs", lambda: pairs(model, train, torch)),
        ]
    for name, probe in probes:
        if time.monotonic() > until:
            break
        try:
            result = probe()
        except Exception as error:  # of a model that needs what it does not get here
            found.setdefault("skipped", {})[name] = repr(error)[:200]
            continue
        if result:
            found[name] = result
    return found
