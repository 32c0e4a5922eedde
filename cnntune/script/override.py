"""Loaded inside a script by `site/sitecustomize.py`: sets the learning rate of its optimizers.

`cnntune search --override train.lr` needs it for scripts that have no option for it. It imports
nothing but the standard library; the script's Python may be any from 3.9 on.

The largest rate of the first optimizer becomes the one that was asked for; all other rates keep
their ratio to it, and schedules follow, since they start from the rates of the optimizer.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

FACTOR = "_cnntune_factor"
ABSOLUTE = {"OneCycleLR": ("max_lr",), "CyclicLR": ("base_lr", "max_lr")}  # rates of their own
state: dict[str, Any] = {"factor": None}


def install(torch: Any) -> None:
    """Scale the rates of every optimizer from its birth."""
    wanted = float(os.environ["CNNTUNE_LR"])
    optimizer = torch.optim.Optimizer
    begin, add = optimizer.__init__, optimizer.add_param_group

    @functools.wraps(begin)
    def begin_scaled(self: Any, *args: Any, **named: Any) -> None:
        begin(self, *args, **named)
        if hasattr(self, FACTOR):
            return
        rates = [float(group["lr"]) for group in self.param_groups if "lr" in group]
        if not rates:
            return
        if state["factor"] is None:
            state["factor"] = wanted / max(rates) if max(rates) > 0 else 1.0
            say(f"learning rate {max(rates):g} -> {wanted:g} ({type(self).__name__})")
        setattr(self, FACTOR, state["factor"])
        for group in self.param_groups:
            scale(group, "lr")
        scale(self.defaults, "lr")

    @functools.wraps(add)
    def add_scaled(self: Any, group: Any) -> None:
        before = len(self.param_groups) if hasattr(self, "param_groups") else 0
        own = isinstance(group, dict) and "lr" in group  # else it takes the default, scaled already
        add(self, group)
        if hasattr(self, FACTOR) and own:
            for added in self.param_groups[before:]:
                scale(added, "lr")

    optimizer.__init__ = begin_scaled
    optimizer.add_param_group = add_scaled
    for name, rates in ABSOLUTE.items():
        scale_schedule(getattr(torch.optim.lr_scheduler, name, None), rates)


def scale(table: Any, key: str) -> None:
    """Multiply a rate, which may be a tensor that the optimizer holds."""
    if key not in table:
        return
    rate = table[key]
    if hasattr(rate, "mul_"):
        rate.mul_(state["factor"])
    else:
        table[key] = rate * state["factor"]


def scale_schedule(schedule: Any, names: tuple[str, ...]) -> None:
    """Scale the rates that a schedule is given instead of taking them from the optimizer."""
    if schedule is None:
        return
    begin = schedule.__init__

    @functools.wraps(begin)
    def begin_scaled(self: Any, optimizer: Any, *args: Any, **named: Any) -> None:
        factor = getattr(optimizer, FACTOR, 1.0)
        given = list(args)
        for position, name in enumerate(names):
            if name in named:
                named[name] = scaled(named[name], factor)
            elif position < len(given):
                given[position] = scaled(given[position], factor)
        begin(self, optimizer, *given, **named)

    schedule.__init__ = begin_scaled


def scaled(rates: Any, factor: float) -> Any:
    """One rate, or one for each group."""
    if isinstance(rates, (list, tuple)):
        return [rate * factor for rate in rates]
    return rates * factor


def say(text: str) -> None:
    """A line on stderr, and a file that tells the search that it was done."""
    sys.stderr.write(f"cnntune: {text}\n")
    (Path(os.environ["CNNTUNE_OUT"]) / f"{os.getpid()}.txt").write_text(text, encoding="utf-8")
