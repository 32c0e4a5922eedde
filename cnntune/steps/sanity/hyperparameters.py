"""Checks of the recipe's settings: rates, decay and clipping that no network trains with."""

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.modes import batch_norms
from cnntune.steps.sanity.subject import Subject

MOST_DECAY = 0.05  # of a weight, a step: 20 steps then erase what was learnt
MOST_WITH_MOMENTUM = 0.2  # the same summed over the steps that momentum adds up: 5 steps erase
MUCH_DECAY = 8e-3  # 125 steps; what papers use together, rate times decay, stays below 1e-3
MOST_MOMENTUM = 0.995  # an average over 200 steps
LEAST_CLIP = 1e-3  # gradient norm
MOST_RATE = {"sgd": 10.0, "adam": 0.3, "adamw": 0.3}  # of what lr-sweep found best: 1 and 0.03
SMALL_BATCH = 4  # images; batch statistics of fewer are noise (Wu and He 2018 lose points at 2)


def optimizer(subject: Subject) -> list[Finding]:
    """Settings under which no network trains: far beyond what papers use (CS231n, optimisation)."""
    train = subject.recipe.train
    found = []
    rate = min(train.lr, MOST_RATE[train.optimizer])
    decoupled = train.optimizer != "adam"  # whose steps hardly depend on the size of the gradient
    decay = train.weight_decay * (rate if decoupled else 1.0)
    if decay > (MUCH_DECAY if decoupled else MOST_DECAY):
        text = (
            f"train.weight_decay = {train.weight_decay:g} takes {decay:.1%} of each weight a step"
        )
        summed = decay / (1 - train.momentum) if train.optimizer == "sgd" else 0.0
        hopeless = decay > MOST_DECAY or summed > MOST_WITH_MOMENTUM
        severity: Severity = "fail" if hopeless else "warn"
        found.append(Finding("optimizer", severity, text, "1e-5 to 1e-1 is usual"))
    if train.momentum >= MOST_MOMENTUM and train.optimizer == "sgd":
        text = f"train.momentum = {train.momentum:g} averages {1 / (1 - train.momentum):.0f} steps"
        found.append(Finding("optimizer", "fail", text, "0.9 is usual"))
    if 0 < train.grad_clip < LEAST_CLIP and train.optimizer == "sgd":
        text = f"train.grad_clip = {train.grad_clip:g} leaves no step longer than"
        text += f" {train.grad_clip * train.lr:.2g}"
        found.append(Finding("optimizer", "fail", text, "0.1 to 10 is usual, 0 turns it off"))
    if train.lr > MOST_RATE[train.optimizer]:
        text = f"train.lr = {train.lr:g} is far above what {train.optimizer} is used with"
        severity = "fail" if train.lr > 3 * MOST_RATE[train.optimizer] else "warn"
        found.append(Finding("optimizer", severity, text, "run `cnntune lr-sweep`"))
    if train.batch_size < SMALL_BATCH and batch_norms(subject.untrained):
        text = f"batch norms see batches of {train.batch_size}: their statistics are noise"
        found.append(
            Finding("optimizer", "warn", text, "use train.batch_size >= 16, or group norm")
        )
    if len(subject.data.train) < train.batch_size:
        text = f"train.batch_size = {train.batch_size} exceeds the {len(subject.data.train)} images"
        found.append(Finding("optimizer", "info", text, "an epoch is a single step"))
    return found or [Finding("optimizer", "ok", f"{train.optimizer}, rate {train.lr:.2g}")]
