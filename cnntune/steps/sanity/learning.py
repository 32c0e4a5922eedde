"""Checks of what training finds: is there anything that carries over to validation images?"""

import time
from dataclasses import replace

import torch

from cnntune.data.augment import augment
from cnntune.findings import Finding, Severity
from cnntune.runs.chance import ENOUGH_IMAGES, Chance
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.modes import batch_norms, settle
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.thumbnails import nearest_labels
from cnntune.steps.sanity.tiny import Memory
from cnntune.training.device import seeded
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import Learner

LEARN_STEPS = 300
LEARN_ENOUGH = 100  # steps after which chance level means that there is nothing to learn
LEARN_LEAST = 20  # steps below which there is nothing to see
LEARN_SECONDS = 8.0
LOOK_SECONDS = 4.0  # for the accuracy afterwards
PATIENT_SECONDS = 30.0  # where that was not enough to beat chance
LEARN_WALL = 300.0  # seconds; for images that are slow to read
LEARN_BATCH = 64
LEARN_IMAGES = 2000  # of validation: 1.1 points of standard error at worst
LEARN_PER_CLASS = 20  # training images from which something must carry over, if there is something
SETTLE_PASSES = 3  # after training, running statistics are nearly there


def learns(subject: Subject, memory: Memory) -> list[Finding]:
    """After a little training, validation accuracy must beat always answering the largest class.

    Shuffled labels can be learnt by heart, and never carry over (Zhang et al. 2017). Whether the
    nearest training image tells the class shows, without the network, if there is a signal.
    """
    if len(subject.data.val) < ENOUGH_IMAGES:
        text = f"skipped: {len(subject.data.val)} validation images are too few to tell skill from"
        return [Finding("learns", "info", text + " chance")]
    guess = Chance.of(subject.data.val.labels.tolist())
    if guess.acc == 1.0:
        return [Finding("learns", "info", "skipped: all validation images are of one class")]
    affordable = min(LEARN_IMAGES, subject.cost.images(LOOK_SECONDS))
    guess = replace(guess, images=min(len(subject.data.val), affordable))
    told = _nearest_accuracy(subject)
    signal = replace(guess, images=len(subject.val_pictures)).beaten_by(told)
    compared = f"chance, the largest class, is {guess.acc:.1%}; the nearest training image is right"
    compared += f" for {told:.1%}"
    planned = min(LEARN_STEPS, subject.cost.steps(LEARN_SECONDS, LEARN_BATCH))
    if planned < LEARN_LEAST or not guess.tells:
        severity: Severity = "ok" if signal else "info"
        text = f"skipped: training takes too long here; {compared}"
        return [Finding("learns", severity, text, measured=told, expected=guess.acc)]
    lr = memory.attempts[-1].lr if memory.attempts else subject.recipe.train.lr
    acc, steps = _train_briefly(subject, lr, planned, guess.images)
    above = guess.beaten_by(acc)
    if steps < LEARN_STEPS and not above and not signal:
        planned = min(LEARN_STEPS, subject.cost.steps(PATIENT_SECONDS, LEARN_BATCH))
        acc, steps = _train_briefly(subject, lr, planned, guess.images)
        above = guess.beaten_by(acc)
    text = f"validation accuracy {acc:.1%} after {steps} steps; {compared}"
    if above:
        return [Finding("learns", "ok", text, measured=acc, expected=guess.acc)]
    enough = steps >= max(LEARN_ENOUGH, planned)  # a look that was cut short proves nothing
    few = too_few(len(subject.data.train), subject.classes)
    if signal:
        advice = "there is a signal that the network does not find: look at what it is fed"
        severity = "warn" if memory.reached and enough else "info"
    elif few:
        text += f"; too few images to tell: {few}"
        advice = "use more of the images here; if there are no more, see whether labels belong to"
        advice += " their images"
        severity = "warn" if enough else "info"
    else:
        advice = (
            "do labels belong to their images? look for shuffling, sorting or an index mixed up"
        )
        severity = "fail" if enough else "info"
    return [Finding("learns", severity, text, advice, measured=acc, expected=guess.acc)]


def too_few(training: int, classes: int) -> str:
    """Why accuracy at chance level proves nothing with so few images; empty where it does."""
    if training < LEARN_PER_CLASS * classes:
        return f"{training} training images of {classes} classes may not be enough to learn from"
    return ""


def _train_briefly(
    subject: Subject, lr: float, planned: int, images: int | None
) -> tuple[float, int]:
    """Accuracy on so many validation images after the planned steps, or those that time allows."""
    learner = Learner.of(subject.recipe, subject.model(), subject.device)
    learner.set_lr(lr)
    train, val, normalise = subject.data.train, subject.data.val, subject.data.normalise
    augmentation = subject.recipe.augment
    generator = torch.Generator().manual_seed(derive_seed(subject.recipe.seed, "learns"))
    batch = min(LEARN_BATCH, len(train))
    start, step = time.monotonic(), 0
    with seeded(subject.recipe.seed, "learns", device=subject.device):
        while step < planned and time.monotonic() - start < LEARN_WALL:
            order = torch.randperm(len(train), generator=generator)
            for inputs, labels in train.batches(order[: len(order) // batch * batch], batch):
                learner.step(*augment(inputs, labels, augmentation, normalise, generator))
                step += 1
                if step >= planned or time.monotonic() - start > LEARN_WALL:
                    break
        if batch_norms(learner.model):
            settle(learner.model, subject.inputs, SETTLE_PASSES)
        chosen = torch.randperm(len(val), generator=generator)[:images]
        return evaluate(learner.model, val, chosen).acc, step


def _nearest_accuracy(subject: Subject) -> float:
    nearest = nearest_labels(subject.val_pictures, subject.train_pictures)
    return float((nearest == subject.val_pictures.labels).float().mean())
