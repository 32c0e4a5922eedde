"""Checks of generalisation: a little training must carry over to validation images."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from cnntune.data.augment import augment
from cnntune.findings import Finding, Severity
from cnntune.runs.chance import ABOVE_CHANCE, ENOUGH_IMAGES, SHORTFALL, Chance
from cnntune.seeds import derive_seed
from cnntune.steps.sanity.modes import RECALIBRATION_PASSES, batch_norms, recalibrate_batch_norm
from cnntune.steps.sanity.record import NoDropout
from cnntune.steps.sanity.references import Reference, best_reference, far_below
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.substitution import (
    OF_NETWORK,
    OF_RECIPE,
    RATES,
    SWAP_SHARE,
    Swap,
    budget,
    likeliest,
    plain_recipe,
    with_settings,
)
from cnntune.steps.sanity.thumbnails import nearest_labels
from cnntune.steps.sanity.tiny import TinyOverfit
from cnntune.training.device import seeded
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import CLEAN_IMAGES, Learner, train

LEARN_STEPS = 300
CONCLUSIVE_STEPS = 100  # chance level after fewer steps proves nothing
MIN_STEPS = 20  # with fewer, the check is skipped
LEARN_SECONDS = 8.0
EVALUATION_SECONDS = 4.0  # for the accuracy afterwards
PATIENT_SECONDS = 30.0  # for a second try where the first does not beat chance or the reference
LEARN_WALL = 300.0  # seconds of wall-clock time; images may be slow to read
LEARN_BATCH = 64
LEARN_IMAGES = 2000  # validation images: a standard error of at most 1.1 points
MIN_IMAGES_PER_CLASS = 20  # for training; with fewer, chance level proves nothing
PATIENCE = 4  # times the steps, before a shortfall is a failure
REPAIRED = 0.5  # of the shortfall, which the guilty part's replacement makes good
HALF = 0.5  # of the reference, above chance: networks differ by less on few images
USUAL_MOMENTUM = 0.1  # of running statistics; TensorFlow's 0.9
UNSETTLED = 0.5  # share of initial values in running statistics; the default leaves 1 % in 44 steps
ENDS = 10  # steps whose mean loss is the initial, or the final one
FALLEN = 0.1  # of the initial loss; a learning rate that lowers it by as much may only be slow


def learns(subject: Subject, overfit: TinyOverfit) -> list[Finding]:
    """After a little training, validation accuracy must be near what the images allow.

    It must exceed the share of the largest class: shuffled labels can be memorised, but do not
    generalise (Zhang et al. 2017). Nor may it be far below references that do without your
    network: the nearest training image, mean and spread of the pixels, a small CNN. If it is, one
    part of the set-up at a time is replaced, and the part whose replacement repairs it is named.
    Before: 31 % with your loss, 94 % with cross-entropy. After the loss is fixed: 94 %, beside 96 %
    by the nearest training image.
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
    run = Run(subject, planned, guess.images)
    trained = run.train(lr)
    acc, steps = trained.acc, trained.steps
    above = guess.beaten_by(acc)
    if steps < LEARN_STEPS and not above and not signal:
        planned = min(LEARN_STEPS, subject.cost.steps(PATIENT_SECONDS, LEARN_BATCH))
        run = replace(run, planned=planned)
        trained = run.train(lr)
        acc, steps = trained.acc, trained.steps
        above = guess.beaten_by(acc)
    if steps >= CONCLUSIVE_STEPS:
        patient = not overfit.failed
        found = _modes(run, trained) or _short(run, lr, trained, guess, patient=patient)
        if found:
            return found
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


@dataclass(frozen=True)
class Trained:
    """`acc` on the validation images `chosen` (int64 `[N]`) is in 0..1.

    `fallen` is by which part of itself the loss fell (means of `ENDS` steps); NaN if it diverged.
    `running` are the running statistics that training left, and `model`
    has those of the training images instead.
    """

    acc: float
    steps: int
    fallen: float
    model: nn.Module
    chosen: Tensor
    running: dict[str, Tensor]


@dataclass(frozen=True)
class Run:
    """A short training: `planned` steps, then the accuracy on `images` validation images."""

    subject: Subject
    planned: int
    images: int | None

    def train(self, lr: float, model: nn.Module | None = None, draw: int = 0) -> Trained:
        """Train `model`, or that of the recipe, at a constant `lr`, or until time runs out.

        If the recipe has a warm-up, `lr` is reached after half of the steps. `draw` numbers initial
        weights.
        """
        return next(self.stages(lr, model, draw))

    def stages(self, lr: float, model: nn.Module | None = None, draw: int = 0) -> Iterator[Trained]:
        """What `train` gives, after each `planned` further steps, without end."""
        subject, recipe = self.subject, self.subject.recipe
        learner = Learner.of(recipe, model or subject.model(draw), subject.device)
        warmup = self.planned / 2 if recipe.train.warmup_epochs else 1.0
        losses: list[Tensor] = []
        val, normalise = subject.data.val, subject.data.normalise
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "learns"))
        batches = _batches(subject, generator)
        chosen: Tensor | None = None
        start = time.monotonic()
        for stage in itertools.count():
            learner.model.train()
            with seeded(recipe.seed, "learns", *([stage] if stage else []), device=subject.device):
                for inputs, labels in itertools.islice(batches, self.planned):
                    learner.set_lr(lr * min(1.0, (len(losses) + 1) / warmup))
                    batch_of = augment(inputs, labels, recipe.augment, normalise, generator)
                    losses.append(learner.step(*batch_of)[0].detach())
                    if time.monotonic() - start > LEARN_WALL:
                        break
                running = {key: value.clone() for key, value in learner.model.named_buffers()}
                if batch_norms(learner.model):
                    recalibrate_batch_norm(learner.model, subject.inputs, RECALIBRATION_PASSES)
                if chosen is None:
                    chosen = torch.randperm(len(val), generator=generator)[: self.images]
                acc = evaluate(learner.model, val, chosen).acc
            first, last = (
                float(torch.stack(part).mean()) for part in (losses[:ENDS], losses[-ENDS:])
            )
            fallen = (first - last) / (abs(first) + 1e-12)
            yield Trained(acc, len(losses), fallen, learner.model, chosen, running)


def _batches(subject: Subject, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Training images and labels, epoch after epoch, without end."""
    train = subject.data.train
    batch = min(LEARN_BATCH, len(train))
    while True:
        order = torch.randperm(len(train), generator=generator)
        yield from train.batches(order[: len(order) // batch * batch], batch)


def _modes(run: Run, trained: Trained) -> list[Finding]:
    """Validation accuracy in eval mode, far below that with the statistics of each batch.

    The running statistics of one batch norm at two places are those of a mixture, whatever images
    they are of; those of a tiny momentum still hold their initial values.
    """
    model, val = trained.model, run.subject.data.val
    norms = [norm for norm in batch_norms(model) if norm.track_running_stats]
    if not norms:
        return []
    text = f"validation accuracy {trained.acc:.1%} in eval mode,"
    model.train()
    right = []
    kept = {key: value.clone() for key, value in model.named_buffers()}
    with torch.no_grad(), NoDropout(), seeded(run.subject.recipe.seed, device=run.subject.device):
        for images, labels in val.batches(trained.chosen, LEARN_BATCH):
            right.append(model(images).argmax(1) == labels)
    batches = Reference("", float(torch.cat(right).float().mean()), len(trained.chosen))
    _restore(model, kept)
    if far_below(trained.acc, batches):
        text += f" {batches.acc:.1%} with the statistics of each batch"
        advice = "give each place a batch norm of its own, and check what depends on self.training"
        return [Finding("train-eval", "fail", text, advice, "", trained.acc, batches.acc)]
    steps = _own_steps(run.subject)
    slowest = min(1.0 if norm.momentum is None else norm.momentum for norm in norms)
    initial = (1 - slowest) ** steps
    if initial < UNSETTLED and all((norm.momentum or 0) <= USUAL_MOMENTUM for norm in norms):
        return []
    _restore(model, trained.running)
    acc = evaluate(model, val, trained.chosen).acc
    _restore(model, kept)
    if (trained.acc - acc) * len(trained.chosen) < ABOVE_CHANCE**2:  # images, as luck may have it
        return []
    text = f"validation accuracy {acc:.1%} with running statistics, {trained.acc:.1%} with those of"
    text += f" the training images: a momentum of {slowest:g} keeps {initial:.0%} of the initial"
    text += f" values for {steps} steps"
    if initial < UNSETTLED:
        text = f"{text.partition(':')[0]}: they are those of the last batch"
    advice = "use the default momentum, 0.1"
    return [Finding("train-eval", "fail", text, advice, "", acc, trained.acc)]


def _restore(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    for key, value in model.named_buffers():
        value.copy_(buffers[key])


def _short(run: Run, lr: float, trained: Trained, guess: Chance, *, patient: bool) -> list[Finding]:
    """Accuracy far below the best reference, at `lr` or at the recipe's own learning rate.

    Only the `patient` ones train for longer: where not even a few images are memorised, more time
    is not what is missing.
    """
    recipe, acc = run.subject.recipe, trained.acc
    at_own_rate = trained if recipe.train.lr == lr else run.train(recipe.train.lr)
    own = at_own_rate.acc
    if min(own, acc) >= 1 - SHORTFALL:  # no reference can be far above
        return _few_steps(run, guess)
    best = best_reference(run.subject)
    if not far_below(own, best):
        return _few_steps(run, guess)
    if not far_below(acc, best):
        return _at_own_rate(run, lr, acc, own, guess)
    settled = _own_training(run.subject)
    if settled is not None and not far_below(settled, best):
        text = f"validation accuracy {settled:.1%} at the best of {recipe.train.epochs} epochs; by"
        text += f" {best.name} {best.acc:.1%}"
        return [Finding("learns", "ok", text, measured=settled, expected=best.acc)]
    # Another part may only make it faster: nothing is wrong where more time is all that it takes.
    rate = lr if acc >= own else recipe.train.lr
    late = max(trained, at_own_rate, key=lambda one: one.acc)
    earlier, late = _patiently(run, rate, best) if patient else (late.acc, late)
    text = f"validation accuracy {late.acc:.1%} after {late.steps} steps; by {best.name}"
    text += f" {best.acc:.1%}"
    few = too_few(len(run.subject.data.train), run.subject.classes)
    if few and late.acc - guess.acc > HALF * (best.acc - guess.acc):
        text += f"; {few}"
    elif far_below(late.acc, best):
        if not (_rising(earlier, late.acc, best) and _own_steps(run.subject) > late.steps):
            return _blamed(run, rate, late.acc, best, text)
        text += f"; it is still rising, from {earlier:.1%} half-way"
    elif late.steps > _own_steps(run.subject):
        # A setting may be the reason why the recipe's own training ends before that.
        cause = _repaired(run, rate, max(acc, own), best.acc, OF_RECIPE)
        if cause:
            return [replace(cause, severity="warn")]
    return [Finding("learns", "info", text, measured=late.acc, expected=best.acc)]


def _own_training(subject: Subject) -> float | None:
    """The best validation accuracy of the recipe's own training; None if it takes too long."""
    settings, cost = subject.recipe.train, subject.cost
    measured = len(subject.data.val) + min(CLEAN_IMAGES, len(subject.data.train))  # per epoch
    forward = settings.epochs * measured // settings.batch_size // 3  # as steps
    if _own_steps(subject) + forward > cost.steps(PATIENT_SECONDS, settings.batch_size):
        return None
    whole = with_settings(precision="float32")(subject.recipe)
    rows = train(whole, subject.data, subject.device, model=subject.model())
    return max((row.val_acc for row in rows if not row.diverged), default=None)


def _patiently(run: Run, lr: float, best: Reference) -> tuple[float, Trained]:
    """Training for longer, until it is near the reference or out of seconds.

    At least twice as long, at most `PATIENCE` times. Returns the accuracy half-way too.
    """
    affordable = run.subject.cost.steps(PATIENT_SECONDS, LEARN_BATCH) // run.planned
    accs = []
    for trained in itertools.islice(run.stages(lr), max(2, min(PATIENCE, affordable))):
        accs.append(trained.acc)
        if not far_below(trained.acc, best):
            break
    return accs[(len(accs) - 1) // 2], trained


def _blamed(run: Run, lr: float, acc: float, best: Reference, text: str) -> list[Finding]:
    """The part of a set-up far below `best` whose replacement repairs it."""
    cause = _repaired(run, lr, acc, best.acc, OF_RECIPE)
    if cause is None:
        together = budget(run.subject).spend(partial(_plainly, run, lr))
        if together is not None and together - acc > REPAIRED * (best.acc - acc):
            text += f"; {together:.1%} without dropout and other regularisation"
            advice = "regularise less, or train for longer"
            return [Finding("learns", "warn", text, advice, measured=acc, expected=best.acc)]
        cause = _repaired(run, lr, acc, best.acc, (*likeliest(run.subject, OF_NETWORK), *RATES))
    advice = "check the network: what it pools, drops or normalises, and how it is initialised"
    if cause:
        text, advice = f"{text}; {cause.evidence}", ""
    found = Finding("learns", "fail", text, advice, measured=acc, expected=best.acc)
    return [found, *([cause] if cause else [])]


def _plainly(run: Run, lr: float, _: float) -> float:
    """The accuracy without dropout and other regularisation, all at once."""
    plain = replace(run, subject=replace(run.subject, recipe=plain_recipe(run.subject.recipe)))
    with NoDropout():
        return plain.train(lr).acc


def _repaired(
    run: Run, lr: float, acc: float, best: float, swaps: Iterable[Swap]
) -> Finding | None:
    """The first part of the set-up whose replacement repairs the shortfall."""
    steps = max(CONCLUSIVE_STEPS, round(SWAP_SHARE * run.planned))
    for swap in swaps:
        repaired = budget(run.subject).spend(partial(_with, swap, replace(run, planned=steps), lr))
        if repaired is not None and repaired - acc > REPAIRED * (best - acc):
            text = f"validation accuracy {acc:.1%} with {swap.part}, {repaired:.1%} with"
            text += f" {swap.other}"
            return Finding(swap.rule, "fail", text, f"check {swap.part}", "", acc, repaired)
    return None


def _with(swap: Swap, run: Run, lr: float, _: float) -> float | None:
    """The accuracy after a replacement; None if there is nothing to replace."""
    if not (changed := swap.of(run.subject)):
        return None
    subject, model = changed
    rate = lr * subject.recipe.train.lr / run.subject.recipe.train.lr
    return replace(run, subject=subject).train(rate, model).acc


def _at_own_rate(run: Run, lr: float, acc: float, own: float, guess: Chance) -> list[Finding]:
    """What accuracy far below the reference at the recipe's learning rate is, but not at `lr`.

    One that is too low may only be slow: unless the recipe's own training ends at chance, it is a
    warning where twice the steps leave accuracy at chance, else a remark.
    """
    recipe, best = run.subject.recipe, best_reference(run.subject)
    rate = recipe.train.lr
    patient = replace(run, planned=2 * run.planned).train(rate)
    text = f"validation accuracy {patient.acc:.1%} after {patient.steps} steps at train.lr ="
    text += f" {rate:.2g}, {acc:.1%} after {run.planned} at {lr:.2g}; by {best.name} {best.acc:.1%}"
    severity: Severity = "info"
    by_chance = not guess.beaten_by(patient.acc)
    if rate > lr and not _rising(own, patient.acc, best):
        severity = "fail" if by_chance else "warn"
    elif by_chance and not patient.fallen > FALLEN:
        severity = "fail" if _own_steps(run.subject) <= patient.steps else "warn"
    elif brief := _few_steps(run, guess):
        return brief
    # What is wrong at a rate that is too low may be what scales the gradients.
    swaps = OF_RECIPE if rate > lr else (*OF_RECIPE, *likeliest(run.subject, OF_NETWORK))
    if severity != "info" and (cause := _repaired(run, rate, own, best.acc, swaps)):
        return [replace(cause, severity=severity)]
    advice = "run `cnntune lr-sweep`"
    return [Finding("optimizer", severity, text, advice, measured=patient.acc, expected=best.acc)]


def _own_steps(subject: Subject) -> int:
    """The steps of the recipe's own training."""
    settings = subject.recipe.train
    return settings.epochs * max(1, len(subject.data.train) // settings.batch_size)


def _few_steps(run: Run, guess: Chance) -> list[Finding]:
    """A batch is the whole training set, and the recipe's epochs end at chance: one step each."""
    recipe, steps = run.subject.recipe, _own_steps(run.subject)
    if steps >= run.planned or recipe.train.batch_size < len(run.subject.data.train):
        return []
    acc = replace(run, planned=steps).train(recipe.train.lr).acc
    if guess.beaten_by(acc):
        return []
    best = best_reference(run.subject)
    text = f"train.batch_size = {recipe.train.batch_size} makes {steps} steps of"
    text += f" {recipe.train.epochs} epochs: validation accuracy {acc:.1%} at train.lr ="
    text += f" {recipe.train.lr:.2g}; by {best.name} {best.acc:.1%}"
    advice = "lower train.batch_size, or raise train.lr with it"
    return [Finding("optimizer", "warn", text, advice, measured=acc, expected=best.acc)]


def _rising(acc: float, longer: float, best: Reference) -> bool:
    """Whether as many steps again repair the shortfall, or as large a gain once more would."""
    return not far_below(longer + (longer - acc), best)


def _nearest_accuracy(subject: Subject) -> float:
    nearest = nearest_labels(subject.val_pictures, subject.train_pictures)
    return float((nearest == subject.val_pictures.labels).float().mean())
