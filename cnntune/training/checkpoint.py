"""A training run's state at the end of an epoch, from which it resumes bit for bit.

Each epoch draws from (seed, epoch) alone and the learning rate is a function of the step, so the
state is the weights, the optimizer's state, and the rows so far.
"""

import pickle
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from cnntune.runs.run import Epoch


def save(path: Path, state: dict[str, Any], rows: Sequence[Epoch]) -> None:
    """Write `state`, nested dicts and lists of tensors and plain values, and the rows, by rename.

    Without `fsync`: a killed process loses nothing by it, and after a power cut the run starts
    again.
    """
    draft = path.with_suffix(".draft")
    torch.save({"rows": [list(astuple(row)) for row in rows], "state": state}, draft)
    draft.replace(path)


def load(path: Path) -> tuple[dict[str, Any], list[Epoch]] | None:
    """What `save` wrote, on the CPU; None where there is no file, or no complete one."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return saved["state"], [Epoch(int(row[0]), *row[1:]) for row in saved["rows"]]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
        return None
