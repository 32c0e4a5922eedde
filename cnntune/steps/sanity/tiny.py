"""A tiny sample by heart: what cannot be done with 32 images will not be done with 50,000."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnntune.steps.sanity.loss import floor
from cnntune.steps.sanity.record import NoDropout
from cnntune.steps.sanity.subject import Subject, computing_seconds
from cnntune.training.device import seeded
from cnntune.training.loop import Learner

TINY_IMAGES = (32, 16, 10)  # what is affordable of the 10 to 100 of CS231n, step 2
TINY_STEPS = 200  # for each rate; a network that learns needs 20 to 100
TINY_PATIENCE = 600  # steps at the best rate, where half of the images are known after 200
HALF_WAY = 0.5  # of the images known: such a network learns, if slowly
TINY_LOSS = 0.05  # nats: every image has 95 % of the probability on its label; above the lowest
# that a loss of the user's own can reach
TINY_RATES = (1.0, 0.1, 10.0, 0.01, 100.0)  # times the recipe's rate, which nobody has tuned yet
USUAL_RATE = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}  # tried too, if the recipe's is far off
TINY_LOOK = 5  # steps between looks at the loss
SOUND_STEPS = 100  # of as many images as allow them in
LEAST_STEPS = 20  # of the fewest images in all the time there is, or none are learnt: large
# networks need 10 to 20
SOUND_SECONDS = 20.0
TINY_SECONDS = 40.0  # for all rates together; a small network needs 3


@dataclass(frozen=True)
class Attempt:
    """Training on the tiny sample at one rate; loss (the recipe's) and accuracy in train mode."""

    lr: float
    first: float  # loss, before any step
    loss: float
    acc: float
    steps: int
    reached: bool  # every image is known, with a loss near the lowest that there is
    cut: bool  # out of time before


@dataclass(frozen=True)
class Memory:
    """What became of a tiny sample of `images` images.

    The best attempt is the last one; there is none where the network is too slow for that. `model`
    is the network after the best attempt, or with its initial weights.
    """

    images: int
    attempts: tuple[Attempt, ...]
    model: nn.Module

    @property
    def reached(self) -> bool:
        """Whether the sample was learnt by heart."""
        return bool(self.attempts) and self.attempts[-1].reached


def memorise(subject: Subject) -> Memory:
    """Learn a few images by heart, trying rates until one does."""
    sizes = [n for n in TINY_IMAGES if subject.cost.steps(SOUND_SECONDS, n) >= SOUND_STEPS]
    least = TINY_IMAGES[-1]
    if not sizes and subject.cost.steps(TINY_SECONDS, least) < LEAST_STEPS:
        return Memory(least, (), subject.untrained)
    images = min(sizes[0] if sizes else least, len(subject.labels))
    model = subject.untrained
    until = computing_seconds(subject.device) + TINY_SECONDS
    own = subject.recipe.train.lr
    attempts: list[Attempt] = []
    for lr in [*[own * factor for factor in TINY_RATES], _usual_rate(subject)]:
        candidate = subject.model()
        attempt = _attempt(subject, candidate, lr, TINY_STEPS, images, until)
        attempts.append(attempt)
        if attempt == max(attempts, key=_rank):
            model = candidate
        if attempt.reached or attempt.cut:
            break
    attempts.sort(key=_rank)
    best = attempts[-1]
    if not best.reached and best.acc > HALF_WAY and not any(a.cut for a in attempts):
        candidate = subject.model()
        patient = _attempt(subject, candidate, best.lr, TINY_PATIENCE, images, until)
        if patient.reached:
            attempts.append(patient)
            model = candidate
    return Memory(images, tuple(attempts), model)


def _usual_rate(subject: Subject) -> float:
    return USUAL_RATE[subject.recipe.train.optimizer]


def _rank(attempt: Attempt) -> tuple[bool, float, float]:
    loss = attempt.loss if math.isfinite(attempt.loss) else math.inf
    return attempt.reached, attempt.acc, -loss


def _attempt(
    subject: Subject, model: nn.Module, lr: float, steps: int, images: int, until: float
) -> Attempt:
    """Train `model` on one batch, until it knows it, or for so many steps, or out of time."""
    plain = {"weight_decay": 0.0, "label_smoothing": 0.0, "grad_clip": 0.0}
    plain["momentum"] = min(subject.recipe.train.momentum, 0.9)
    settings = subject.recipe.train.model_copy(update=plain)
    recipe = subject.recipe.model_copy(update={"train": settings})
    learner = Learner.of(recipe, model, subject.device)
    learner.set_lr(lr)
    inputs, labels = subject.inputs[:images], subject.labels[:images]
    enough = floor(subject) + TINY_LOSS
    step, first = 0, math.nan
    with seeded(subject.recipe.seed, "overfit-tiny", device=subject.device), NoDropout():
        while True:
            step += 1
            before, _ = learner.step(inputs.clone(), labels)
            if step == 1:
                first = float(before)
            cut = computing_seconds(subject.device) > until
            if step % TINY_LOOK == 0 or cut:
                loss, acc = _look(learner, inputs, labels)
                reached = loss <= enough and acc == 1.0
                if reached or cut or step >= steps or not math.isfinite(loss):
                    return Attempt(lr, first, loss, acc, step, reached, cut and not reached)


@torch.no_grad()
def _look(learner: Learner, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    learner.model.train()
    logits = learner.model(inputs.clone()).float()
    loss = float(learner.loss(logits, labels))
    return loss, float((logits.argmax(1) == labels).float().mean())
