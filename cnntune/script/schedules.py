"""What a scheduler does with the learning rate until the end of the training that is announced.

Like the observer it runs in the Python of the script, and needs the standard library and `torch`
alone. A copy of the scheduler is stepped, with an optimizer that holds nothing.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

NAMES = ("epochs", "num_epochs", "n_epochs", "max_epochs", "nb_epochs", "total_epochs", "nepochs")
MAX_STEPS = 20_000
LONG_RUN = 30  # times the announced length: what the schedule would reach at last
MAX_EPOCHS = 5_000
SAMPLES = 50  # rates that are told


def announced(frame: Any, is_theirs: Any) -> int:
    """The number of epochs that the user's variables name; 0 where none does."""
    while frame is not None:
        if is_theirs(frame.f_code.co_filename):
            for space in (frame.f_locals, frame.f_globals):
                found = in_space(space)
                if found:
                    return found
        frame = frame.f_back
    return 0


def in_space(space: Any) -> int:
    """A number of epochs among variables, or among those of an object such as parsed arguments."""
    for name, value in list(space.items()):
        if name.lower() in NAMES and is_count(value):
            return int(value)
    for value in list(space.values()):
        inner = value if type(value) is dict else getattr(value, "__dict__", None)
        if type(inner) is dict and not isinstance(value, type) and len(inner) < 200:
            for name, entry in list(inner.items()):
                if isinstance(name, str) and name.lower() in NAMES and is_count(entry):
                    return int(entry)
    return 0


def is_count(value: Any) -> bool:
    """Whether a value may be a number of epochs."""
    return type(value) is int and 1 < value <= MAX_EPOCHS


def rates(scheduler: Any, steps: int, torch: Any) -> list[float]:
    """The highest learning rate now and after each of so many further steps."""
    optimizer = scheduler.optimizer
    groups = []
    for group in optimizer.param_groups:
        kept = {key: value for key, value in group.items() if key != "params"}
        groups.append({**kept, "params": [torch.nn.Parameter(torch.zeros(1))]})
    stand_in = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    stand_in.param_groups = groups
    stand_in.defaults = dict(optimizer.defaults)
    model = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    found = [highest(stand_in)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            try:
                model.step()
            except ValueError:  # past the end of its cycle
                break
            found.append(highest(stand_in))
    return found


def highest(optimizer: Any) -> float:
    """The highest learning rate of all groups."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def to_the_end(
    scheduler: Any, begun: float, done: int, per_epoch: float, epochs: int, torch: Any
) -> dict[str, Any]:
    """The schedule until the announced end, from the state that it is in after `done` steps.

    `begun` is the highest learning rate so far, `per_epoch` the steps of the scheduler per epoch.
    """
    total = round(epochs * per_epoch)
    ahead = max(0, total - done)
    if ahead > MAX_STEPS or total < 1:
        return {}
    every = rates(scheduler, min(MAX_STEPS, ahead + LONG_RUN * total), torch)
    planned = every[:ahead] or every[:1]
    low = next((i for i, rate in enumerate(planned) if rate < 1e-3 * max(begun, *planned)), None)
    stays = low is not None and max(planned[low:]) < 1e-2 * max(begun, *planned)
    return {
        "name": type(scheduler).__name__,
        "epochs": epochs,
        "per_epoch": per_epoch,
        "total": total,
        "highest": max(begun, *planned, 0.0),
        "at_last": max(begun, *every, 0.0),
        "ends_at": (done + low) / total if stays and low is not None else None,
        "rates": planned[:: max(1, len(planned) // SAMPLES)],
    }
