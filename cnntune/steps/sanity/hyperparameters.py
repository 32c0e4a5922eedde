"""Checks of hyperparameters: learning rate, decay, momentum and clipping beyond usual values."""

from cnntune.findings import Finding, Severity
from cnntune.steps.sanity.modes import batch_norms
from cnntune.steps.sanity.subject import Subject

MAX_DECAY = 0.05  # of a weight per step: 20 steps erase what was learned
MAX_SUMMED_DECAY = 0.2  # the same, summed over the steps that momentum averages: 5 steps erase
HIGH_DECAY = 8e-3  # 125 steps; lr times weight decay stays below 1e-3 in papers
MAX_MOMENTUM = 0.995  # an average over 200 steps
MIN_CLIP = 1e-3  # gradient norm
MAX_LR = {"sgd": 10.0, "adam": 0.3, "adamw": 0.3}  # ten times the largest that lr-sweep found best
SMALL_BATCH = 4  # images; statistics of fewer are noise (Wu and He 2018: 2 loses points)


def optimizer(subject: Subject) -> list[Finding]:
    """Hyperparameters must not be far beyond the values that networks are trained with.

    Training diverges with a learning rate far above the usual ones. Weight decay that removes
    several percent of each weight per step erases what was learned. Momentum close to 1 averages
    over hundreds of steps. Gradient clipping to a tiny norm leaves tiny steps. Batch norm needs
    more than a few images per batch. (CS231n, optimisation.)
    """
    train = subject.recipe.train
    found = []
    lr = min(train.lr, MAX_LR[train.optimizer])
    decoupled = train.optimizer != "adam"  # its steps hardly depend on the scale of the gradient
    decay = train.weight_decay * (lr if decoupled else 1.0)
    if decay > (HIGH_DECAY if decoupled else MAX_DECAY):
        text = (
            f"train.weight_decay = {train.weight_decay:g} removes {decay:.1%} of each weight per"
            " step"
        )
        summed = decay / (1 - train.momentum) if train.optimizer == "sgd" else 0.0
        hopeless = decay > MAX_DECAY or summed > MAX_SUMMED_DECAY
        severity: Severity = "fail" if hopeless else "warn"
        found.append(Finding("optimizer", severity, text, "lower it: 1e-5 to 1e-1 is usual"))
    if train.momentum >= MAX_MOMENTUM and train.optimizer == "sgd":
        text = f"train.momentum = {train.momentum:g} averages {1 / (1 - train.momentum):.0f} steps"
        found.append(Finding("optimizer", "fail", text, "lower it: 0.9 is usual"))
    if 0 < train.grad_clip < MIN_CLIP and train.optimizer == "sgd":
        text = f"train.grad_clip = {train.grad_clip:g} limits the length of a step to"
        text += f" {train.grad_clip * train.lr:.2g}"
        advice = "raise it: 0.1 to 10 is usual, 0 turns clipping off"
        found.append(Finding("optimizer", "fail", text, advice))
    if train.lr > MAX_LR[train.optimizer]:
        text = f"train.lr = {train.lr:g} is far above usual learning rates of {train.optimizer}"
        severity = "fail" if train.lr > 3 * MAX_LR[train.optimizer] else "warn"
        found.append(Finding("optimizer", severity, text, "run `cnntune lr-sweep`"))
    if train.batch_size < SMALL_BATCH and batch_norms(subject.untrained):
        text = f"batch norm with batches of {train.batch_size}: its statistics are noise"
        found.append(
            Finding("optimizer", "warn", text, "use train.batch_size >= 16, or group norm")
        )
    if len(subject.data.train) < train.batch_size:
        text = f"train.batch_size = {train.batch_size} exceeds the {len(subject.data.train)}"
        text += " training images: an epoch is a single step"
        found.append(Finding("optimizer", "info", text, "lower train.batch_size"))
    return found or [Finding("optimizer", "ok", f"{train.optimizer}, lr {train.lr:.2g}")]
