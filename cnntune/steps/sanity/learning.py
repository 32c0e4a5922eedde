"""Checks of generalisation: a little training must carry over to validation images."""

import time
from dataclasses import replace

import torch

from cnntune.data.augment import augment
from cnntune.findings import Finding, Severity
from cnntune.runs.chance import ENOUGH_IMAGES, Chance
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.modes import batch_norms, recalibrate_batch_norm
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.thumbnails import nearest_labels
from cnntune.steps.sanity.tiny import TinyOverfit
from cnntune.training.device import seeded
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import Learner

LEARN_STEPS = 300
CONCLUSIVE_STEPS = 100  # chance level after fewer steps proves nothing
MIN_STEPS = 20  # with fewer, the check is skipped
LEARN_SECONDS = 8.0
EVALUATION_SECONDS = 4.0  # for the accuracy afterwards
PATIENT_SECONDS = 30.0  # for a second try, if the first does not beat chance
LEARN_WALL = 300.0  # seconds of wall-clock time; images may be slow to read
LEARN_BATCH = 64
LEARN_IMAGES = 2000  # validation images: a standard error of at most 1.1 points
MIN_IMAGES_PER_CLASS = 20  # for training; with fewer, chance level proves nothing
RECALIBRATION_PASSES = 3  # running statistics are nearly right after training


def learns(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """After a little training, validation accuracy must exceed the share of the largest class.

    Shuffled labels can be memorised, but do not generalise (Zhang et al. 2017). The accuracy of the
    nearest training image shows, without the network, whether there is a signal to learn.
    """
    if len(subject.data.val) < ENOUGH_IMAGES:
        text = f"skipped: {len(subject.data.val)} validation images are too few to distinguish"
        return [Finding("learns", "info", f"{text} learning from chance")]
    guess = Chance.of(subject.data.val.labels.tolist())
    if guess.acc == 1.0:
        return [Finding("learns", "info", "skipped: all validation images are of one class")]
    affordable = min(LEARN_IMAGES, subject.cost.images(EVALUATION_SECONDS))
    guess = replace(guess, images=min(len(subject.data.val), affordable))
    nearest_acc = _nearest_accuracy(subject)
    signal = replace(guess, images=len(subject.val_pictures)).beaten_by(nearest_acc)
    compared = f"by chance (largest class) {guess.acc:.1%}, by the nearest training image"
    compared += f" {nearest_acc:.1%}"
    planned = min(LEARN_STEPS, subject.cost.steps(LEARN_SECONDS, LEARN_BATCH))
    if planned < MIN_STEPS or not guess.tells:
        severity: Severity = "ok" if signal else "info"
        text = f"skipped: training takes too long here; accuracy {compared}"
        return [Finding("learns", severity, text, measured=nearest_acc, expected=guess.acc)]
    lr = overfit.attempts[-1].lr if overfit.attempts else subject.recipe.train.lr
    acc, steps = _train_briefly(subject, lr, planned, guess.images)
    above = guess.beaten_by(acc)
    if steps < LEARN_STEPS and not above and not signal:
        planned = min(LEARN_STEPS, subject.cost.steps(PATIENT_SECONDS, LEARN_BATCH))
        acc, steps = _train_briefly(subject, lr, planned, guess.images)
        above = guess.beaten_by(acc)
    text = f"validation accuracy {acc:.1%} after {steps} steps; {compared}"
    if above:
        return [Finding("learns", "ok", text, measured=acc, expected=guess.acc)]
    enough = steps >= max(CONCLUSIVE_STEPS, planned)  # training that was cut short proves nothing
    few = too_few(len(subject.data.train), subject.classes)
    if signal:
        advice = "check what the network is fed: images do predict the class"
        severity = "warn" if overfit.reached and enough else "info"
    elif few:
        text += f"; too few images to judge: {few}"
        advice = "use more images here; if there are no more, check that labels belong to their"
        advice += " images"
        severity = "warn" if enough else "info"
    else:
        advice = "check that labels belong to their images: shuffling, sorting or a wrong index"
        severity = "fail" if enough else "info"
    return [Finding("learns", severity, text, advice, measured=acc, expected=guess.acc)]


def too_few(training: int, classes: int) -> str:
    """Why chance level proves nothing with so few images; empty if there are enough."""
    if training < MIN_IMAGES_PER_CLASS * classes:
        return f"{training} training images of {classes} classes may not suffice to learn"
    return ""


def _train_briefly(
    subject: Subject, lr: float, planned: int, images: int | None
) -> tuple[float, int]:
    """Train for `planned` steps, or fewer if time runs out.

    Returns the accuracy (0..1) on `images` validation images, and the number of steps.
    """
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
            recalibrate_batch_norm(learner.model, subject.inputs, RECALIBRATION_PASSES)
        chosen = torch.randperm(len(val), generator=generator)[:images]
        return evaluate(learner.model, val, chosen).acc, step


def _nearest_accuracy(subject: Subject) -> float:
    nearest = nearest_labels(subject.val_pictures, subject.train_pictures)
    return float((nearest == subject.val_pictures.labels).float().mean())
