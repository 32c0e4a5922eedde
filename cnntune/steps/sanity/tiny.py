"""Overfit a tiny batch: a network that cannot memorise 32 images will not learn 50,000."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnntune.steps.sanity.loss import floor
from cnntune.steps.sanity.record import NoDropout
from cnntune.steps.sanity.subject import Subject, computing_seconds
from cnntune.steps.sanity.substitution import SWAP_SHARE
from cnntune.training.device import seeded
from cnntune.training.loop import Learner

TINY_IMAGES = (32, 16, 10)  # CS231n step 2 takes 10 to 100; the largest size that is affordable
TINY_STEPS = 200  # per learning rate; a sound network needs 20 to 100
TINY_PATIENCE = 600  # steps at the best learning rate, if half of the images are right after 200
HALF_WAY = 0.5  # accuracy at which a network learns, if slowly
TINY_LOSS = 0.05  # nats above the minimum of the loss: 95 % probability on each label
NEARLY_ACC = 0.95  # a network with a fault, or that misses one of ten classes, stays below this
NEARLY_LOSS = 0.25  # of the initial loss; with bounded logits the loss stays above this
LR_FACTORS = (1.0, 0.1, 10.0, 0.01, 100.0)  # times train.lr, which is not tuned yet
USUAL_LR = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}  # tried last: train.lr may be far off
CHECK_EVERY = 5  # steps between two evaluations of loss and accuracy
SOUND_STEPS = 100  # that must fit in SOUND_SECONDS; decides the number of images
MIN_STEPS = 20  # on the fewest images within TINY_SECONDS, or the test is skipped: large networks
# need 10 to 20
SOUND_SECONDS = 20.0
TINY_SECONDS = 40.0  # for all learning rates together; a small network needs 3


@dataclass(frozen=True)
class Attempt:
    """Training on the tiny batch at one learning rate; `loss` and `acc` are those in train mode."""

    lr: float
    first: float  # loss before the first step
    loss: float  # at the end; the recipe's loss
    acc: float  # at the end
    steps: int
    reached: bool  # accuracy is 100 %, with a loss near its minimum
    cut: bool  # out of time before that


@dataclass(frozen=True)
class TinyOverfit:
    """The result of training on a tiny batch of `images` images.

    The best attempt is the last one; there is none if the network is too slow. `model` is the
    network after the best attempt that left finite weights, or with its initial weights if there is
    none.
    """

    images: int
    attempts: tuple[Attempt, ...]
    model: nn.Module

    @property
    def reached(self) -> bool:
        """Whether the batch was memorised."""
        return bool(self.attempts) and self.attempts[-1].reached

    @property
    def nearly(self) -> bool:
        """Whether only a little is missing."""
        best = self.attempts[-1]
        return best.acc >= NEARLY_ACC and best.loss <= NEARLY_LOSS * best.first

    @property
    def cut(self) -> bool:
        """Whether there was no time to tell."""
        return not self.attempts or (
            not self.reached and any(attempt.cut for attempt in self.attempts)
        )

    @property
    def failed(self) -> bool:
        """Whether the batch was not memorised, though there was time to."""
        return not (self.cut or self.reached or self.nearly)


def overfit_tiny_batch(subject: Subject) -> TinyOverfit:
    """Memorise a few images; learning rates are tried until one succeeds."""
    sizes = [n for n in TINY_IMAGES if subject.cost.steps(SOUND_SECONDS, n) >= SOUND_STEPS]
    least = TINY_IMAGES[-1]
    if not sizes and subject.cost.steps(TINY_SECONDS, least) < MIN_STEPS:
        return TinyOverfit(least, (), subject.untrained)
    images = min(sizes[0] if sizes else least, len(subject.labels))
    model = subject.untrained
    until = computing_seconds(subject.device) + TINY_SECONDS
    own = subject.recipe.train.lr
    attempts: list[Attempt] = []
    for lr in [*[own * factor for factor in LR_FACTORS], usual_lr(subject)]:
        candidate = subject.model()
        attempt = _attempt(subject, candidate, lr, TINY_STEPS, images, until)
        attempts.append(attempt)
        if attempt == max(attempts, key=_rank) and finite(candidate):
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
    return TinyOverfit(images, tuple(attempts), model)


def memorise(
    subject: Subject, model: nn.Module, lr: float, images: int, *, until: float
) -> Attempt:
    """Train `model` on the tiny batch, for half as many steps as at each learning rate."""
    return _attempt(subject, model, lr, round(SWAP_SHARE * TINY_STEPS), images, until)


def finite(model: nn.Module) -> bool:
    """Whether no weight is NaN or infinite, as those of a network that diverged are."""
    return all(bool(torch.isfinite(weight).all()) for weight in model.parameters())


def usual_lr(subject: Subject) -> float:
    """A learning rate at which the recipe's optimizer trains most networks."""
    return USUAL_LR[subject.recipe.train.optimizer]


def _rank(attempt: Attempt) -> tuple[bool, float, float]:
    loss = attempt.loss if math.isfinite(attempt.loss) else math.inf
    return attempt.reached, attempt.acc, -loss


def _attempt(
    subject: Subject, model: nn.Module, lr: float, steps: int, images: int, until: float
) -> Attempt:
    """Train `model` on one batch until it is memorised, or for `steps` steps, or until `until`."""
    plain = {"weight_decay": 0.0, "label_smoothing": 0.0, "grad_clip": 0.0}
    plain["momentum"] = min(subject.recipe.train.momentum, 0.9)
    settings = subject.recipe.train.model_copy(update=plain)
    recipe = subject.recipe.model_copy(update={"train": settings})
    learner = Learner.of(recipe, model, subject.device)
    learner.set_lr(lr)
    inputs, labels = subject.inputs[:images], subject.labels[:images]
    target = floor(subject) + TINY_LOSS
    step, first = 0, math.nan
    with seeded(subject.recipe.seed, "overfit-tiny", device=subject.device), NoDropout():
        while True:
            step += 1
            before, _ = learner.step(inputs.clone(), labels)
            if step == 1:
                first = float(before)
            cut = computing_seconds(subject.device) > until
            if step % CHECK_EVERY == 0 or cut:
                loss, acc = _loss_and_accuracy(learner, inputs, labels)
                reached = loss <= target and acc == 1.0
                if reached or cut or step >= steps or not math.isfinite(loss):
                    return Attempt(lr, first, loss, acc, step, reached, cut and not reached)


@torch.no_grad()
def _loss_and_accuracy(learner: Learner, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    learner.model.train()
    logits = learner.model(inputs.clone()).float()
    loss = float(learner.loss(logits, labels))
    return loss, float((logits.argmax(1) == labels).float().mean())
