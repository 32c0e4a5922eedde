"""Checks that train: a sample by heart, both modes alike, the image used, a signal to learn."""

import copy
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnntune.augment import augment
from cnntune.evaluate import evaluate
from cnntune.findings import Finding, Severity
from cnntune.sanity.images import nearest_labels
from cnntune.sanity.loss import floor
from cnntune.sanity.network import batch_norms
from cnntune.sanity.record import NoDropout
from cnntune.sanity.subject import Subject, draw_images
from cnntune.seeds import derive_seed
from cnntune.train import Learner, seeded

TINY_IMAGES = 32  # CS231n step 2: "a small sample, 10-100 examples"
TINY_STEPS = 200  # for each rate; a network that learns needs 20 to 100
TINY_PATIENCE = 600  # steps at the best rate, where half of the images are known after 200
HALF_WAY = 0.5  # of the images known: such a network learns, if slowly
TINY_LOSS = 0.05  # nats: every image has 95 % of the probability on its label; above the lowest
# that a loss of the user's own can reach
TINY_RATES = (1.0, 0.1, 10.0, 0.01, 100.0)  # times the recipe's rate, which nobody has tuned yet
TINY_LOOK = 10  # steps between looks at the loss
TINY_SECONDS = 20.0  # for each rate: large networks get fewer steps on a CPU
BOUND = 1.5  # for logits; ten classes need 5 to be 95 % sure
FAR_OFF = 30.0  # times: a rate a decade off is what `lr-sweep` is for
HOPELESS = 500.0  # times: no schedule makes up for it
USUAL_RATE = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}  # tried too, if the recipe's is far off

SETTLE_PASSES = 20  # forward passes in which running statistics forget their start
KEPT = 0.5  # of the accuracy in train mode that has to be left in eval mode
SMALL_BATCH = 4  # images; batch statistics of fewer are noise (Wu and He 2018 lose points at 2)

MOST_DECAY = 0.05  # of a weight, a step: 20 steps then erase what was learnt
MOST_MOMENTUM = 0.995  # an average over 200 steps
LEAST_CLIP = 1e-3  # gradient norm
MOST_RATE = {"sgd": 10.0, "adam": 0.3, "adamw": 0.3}  # of what lr-sweep found best: 1 and 0.03

SAME = 1e-5  # of the largest logit: what float32 sums in another order differ by
READ = 0.5  # of the pixels that must have an influence
LEARN_STEPS = 300
LEARN_SECONDS = 15.0
LEARN_BATCH = 64
ABOVE_CHANCE = 3.0  # standard errors: one false alarm in 700
ENOUGH_IMAGES = 40  # validation images below which chance cannot be told from skill
NEIGHBOURS = 2000


@dataclass(frozen=True)
class Memory:
    """An attempt to learn the tiny sample by heart."""

    lr: float
    loss: float
    acc: float
    steps: int
    model: nn.Module
    reached: bool  # every image is known, with a loss near the lowest that there is
    cut: bool  # out of time before


def memorise(subject: Subject) -> list[Memory]:
    """Learn 32 images by heart, trying rates until one does; the last attempt is the best."""
    attempts: list[Memory] = []
    own = subject.recipe.train.lr
    rates = [own * factor for factor in TINY_RATES]
    for lr in [*rates, USUAL_RATE[subject.recipe.train.optimizer]]:
        attempts.append(_attempt(subject, lr, TINY_STEPS))
        if attempts[-1].reached or attempts[-1].cut:
            return attempts
    attempts.sort(key=lambda attempt: (attempt.acc, -_finite(attempt.loss)))
    if attempts[-1].acc > HALF_WAY:
        patient = _attempt(subject, attempts[-1].lr, TINY_PATIENCE)
        if patient.reached:
            attempts.append(patient)
    return attempts


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _attempt(subject: Subject, lr: float, steps: int) -> Memory:
    """Train on one batch; loss (the recipe's) and accuracy are those of train mode."""
    plain = {"weight_decay": 0.0, "label_smoothing": 0.0, "grad_clip": 0.0}
    plain["momentum"] = min(subject.recipe.train.momentum, 0.9)
    settings = subject.recipe.train.model_copy(update=plain)
    recipe = subject.recipe.model_copy(update={"train": settings})
    model = subject.model()
    learner = Learner.of(recipe, model, subject.device)
    learner.set_lr(lr)
    inputs, labels = subject.inputs[:TINY_IMAGES], subject.labels[:TINY_IMAGES]
    enough = floor(subject) + TINY_LOSS
    step, start = 0, time.monotonic()
    with seeded(subject.recipe.seed, "overfit-tiny", device=subject.device), NoDropout():
        while True:
            step += 1
            learner.step(inputs, labels)
            cut = time.monotonic() - start > TINY_SECONDS
            if step % TINY_LOOK == 0 or cut:
                loss, acc = _look(learner, inputs, labels)
                reached = loss <= enough and acc == 1.0
                if reached or cut or step >= steps or not math.isfinite(loss):
                    return Memory(lr, loss, acc, step, model, reached, cut and not reached)


@torch.no_grad()
def _look(learner: Learner, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    learner.model.train()
    logits = learner.model(inputs).float()
    loss = float(learner.loss(logits, labels))
    return loss, float((logits.argmax(1) == labels).float().mean())


def overfit_tiny(subject: Subject, attempts: list[Memory]) -> list[Finding]:
    """A network that cannot learn 32 images by heart will not learn 50,000 (CS231n step 2).

    Augmentation, dropout, weight decay, clipping and label smoothing are off, since each of them
    exists to prevent just this. The recipe's rate may be wrong, so others are tried too.
    """
    best = attempts[-1]
    images = min(TINY_IMAGES, len(subject.inputs))
    if best.reached:
        text = f"{images} images: loss {best.loss:.2g}, accuracy 100% after {best.steps} steps"
        text += f" at rate {best.lr:.2g}"
        found = [Finding("overfit-tiny", "ok", text, measured=best.loss, expected=0.0)]
        return [*found, *_far_off(subject, attempts)]
    if best.cut:
        text = (
            f"skipped: loss {best.loss:.3g}, accuracy {best.acc:.0%} after the {best.steps} steps"
        )
        text += f" that {TINY_SECONDS:.0f} s allow"
        return [Finding("overfit-tiny", "info", text, measured=best.loss, expected=0.0)]
    rates = ", ".join(f"{attempt.lr:.2g}" for attempt in sorted(attempts, key=lambda a: a.lr))
    text = f"{images} images: loss {best.loss:.3g}, accuracy {best.acc:.0%} at best, after"
    text += f" {TINY_STEPS} steps at each of the rates {rates}"
    advice = "do not tune yet: mend what other rules name; else look at the labels' order, at"
    advice += " layers that are cut off, and at what reaches the loss"
    found = [Finding("overfit-tiny", "fail", text, advice, measured=best.loss, expected=0.0)]
    return [*found, *_bounded(subject, best)]


def _bounded(subject: Subject, best: Memory) -> list[Finding]:
    """All images right, and still a high loss: the logits cannot grow."""
    with torch.no_grad():
        logits = best.model(subject.inputs[:TINY_IMAGES])
    largest = float(logits.abs().max())
    if best.acc < 1.0 or largest > BOUND:
        return []
    text = f"accuracy is 100% with a loss of {best.loss:.3g}: logits stay within {largest:.2g}"
    advice = "do not squash or normalise the outputs; a cosine needs a factor of 10 or more"
    return [Finding("outputs", "fail", text, advice, measured=largest)]


def _far_off(subject: Subject, attempts: list[Memory]) -> list[Finding]:
    """The recipe's own rate did not do it, and one a decade or more away did."""
    best = attempts[-1]
    own = next(attempt for attempt in attempts if attempt.lr == subject.recipe.train.lr)
    if own.reached or 1 / FAR_OFF < own.lr / best.lr < FAR_OFF:
        return []
    text = f"train.lr = {own.lr:.2g} cannot overfit {TINY_IMAGES} images (loss {own.loss:.3g}),"
    text += f" {best.lr:.2g} can"
    advice = "run `cnntune lr-sweep`"
    hopeless = not 1 / HOPELESS < own.lr / best.lr < HOPELESS
    severity: Severity = "fail" if hopeless else "warn"
    return [Finding("optimizer", severity, text, advice, measured=own.lr, expected=best.lr)]


def optimizer(subject: Subject) -> list[Finding]:
    """Settings under which no network trains: far beyond what papers use (CS231n, optimisation)."""
    train = subject.recipe.train
    found = []
    rate = min(train.lr, MOST_RATE[train.optimizer])
    decay = train.weight_decay * (rate if train.optimizer != "adam" else 1.0)
    if decay > MOST_DECAY:
        text = (
            f"train.weight_decay = {train.weight_decay:g} takes {decay:.1%} of each weight a step"
        )
        found.append(Finding("optimizer", "fail", text, "1e-5 to 1e-1 is usual"))
    if train.momentum >= MOST_MOMENTUM and train.optimizer == "sgd":
        text = f"train.momentum = {train.momentum:g} averages {1 / (1 - train.momentum):.0f} steps"
        found.append(Finding("optimizer", "fail", text, "0.9 is usual"))
    if 0 < train.grad_clip < LEAST_CLIP and train.optimizer == "sgd":
        text = f"train.grad_clip = {train.grad_clip:g} leaves no step longer than"
        text += f" {train.grad_clip * train.lr:.2g}"
        found.append(Finding("optimizer", "fail", text, "0.1 to 10 is usual, 0 turns it off"))
    if train.lr > MOST_RATE[train.optimizer]:
        text = f"train.lr = {train.lr:g} is far above what {train.optimizer} is used with"
        severity: Severity = "fail" if train.lr > 3 * MOST_RATE[train.optimizer] else "warn"
        found.append(Finding("optimizer", severity, text, "run `cnntune lr-sweep`"))
    if train.batch_size < SMALL_BATCH and batch_norms(subject.model()):
        text = f"batch norms see batches of {train.batch_size}: their statistics are noise"
        found.append(
            Finding("optimizer", "warn", text, "use train.batch_size >= 16, or group norm")
        )
    if len(subject.data.train) < train.batch_size:
        text = f"train.batch_size = {train.batch_size} exceeds the {len(subject.data.train)} images"
        found.append(Finding("optimizer", "info", text, "an epoch is a single step"))
    return found or [Finding("optimizer", "ok", f"{train.optimizer}, rate {train.lr:.2g}")]


def train_eval(subject: Subject, attempts: list[Memory]) -> list[Finding]:
    """Train and eval mode must be one network: in eval mode deterministic, and as good.

    Dropout that ignores the mode, batch norms whose running statistics never move, and a forward
    pass that switches modes each make validation measure another network than was trained.
    """
    model = copy.deepcopy(attempts[-1].model)
    inputs, labels = subject.inputs[:TINY_IMAGES], subject.labels[:TINY_IMAGES]
    model.train()
    before = [module.training for module in model.modules()]
    with torch.no_grad():
        model(inputs)
    if [module.training for module in model.modules()] != before:
        text = "the forward pass switches modules between train and eval mode"
        advice = "leave the mode to the caller: no .eval() or .train() inside forward"
        return [Finding("train-eval", "fail", text, advice)]
    model.eval()
    with torch.no_grad():
        first, second = model(inputs).float(), model(inputs).float()
    if not torch.equal(first, second):
        change = float((first - second).abs().max() / first.std().clamp(min=1e-12))
        text = f"two passes in eval mode differ by {change:.0%} of the logits' spread"
        advice = "give F.dropout training=self.training, and keep no state between calls"
        return [Finding("train-eval", "fail", text, advice, measured=change, expected=0.0)]
    if still := [m for m in batch_norms(model) if m.momentum == 0 and m.track_running_stats]:
        text = f"{len(still)} batch norms have momentum 0: their running statistics never move"
        return [Finding("train-eval", "fail", text, "use the default momentum, 0.1")]
    if not attempts[-1].reached:
        return [Finding("train-eval", "ok", "eval mode is deterministic")]
    _settle(model, inputs)
    with torch.no_grad():
        acc = float((model(inputs).argmax(1) == labels).float().mean())
    text = f"accuracy on the images learnt by heart: 100% in train mode, {acc:.0%} in eval mode"
    if acc >= KEPT:
        return [Finding("train-eval", "ok", text, measured=acc, expected=1.0)]
    advice = "look at layers that act on the mode: dropout, batch norms, `if self.training`"
    return [Finding("train-eval", "fail", text, advice, measured=acc, expected=1.0)]


def _settle(model: nn.Module, inputs: Tensor) -> None:
    """Let running statistics become those of these images, whatever their momentum."""
    norms = [norm for norm in batch_norms(model) if norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the passes
    model.train()
    with torch.no_grad():
        for _ in range(SETTLE_PASSES if norms else 0):
            model(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def input_used(subject: Subject, attempts: list[Memory]) -> list[Finding]:
    """The image must decide: blank images cannot be told apart (Karpathy's recipe, step 2).

    A network that gives every image the same logits reads none. One that learnt different labels by
    heart reads them; its twin on blank images cannot get under the entropy of the labels. Pixels
    and channels without any influence are named.
    """
    model = copy.deepcopy(attempts[-1].model if attempts[-1].reached else subject.model())
    inputs, labels = subject.inputs[:TINY_IMAGES], subject.labels[:TINY_IMAGES]
    model.eval()
    with torch.no_grad():
        logits = model(inputs).float()
        blank = model(torch.zeros_like(inputs)).float()
    if float((logits - blank).abs().max()) <= SAME * float(logits.abs().max()):
        text = "images and blank images give the same logits"
        advice = "look at where the input is dropped, overwritten or multiplied by 0"
        return [Finding("input-used", "fail", text, advice, measured=0.0)]
    entropy = _entropy(labels, subject.classes)
    best = attempts[-1]
    text = f"loss {best.loss:.2g} with images; blank ones cannot get under {entropy:.2g}, the"
    text += " entropy of the labels"
    found = _unread(model, inputs) or _order_free(model, inputs)
    severity: Severity = "ok" if best.loss < entropy else "info"
    return found or [Finding("input-used", severity, text, measured=best.loss, expected=entropy)]


def _order_free(model: nn.Module, inputs: Tensor) -> list[Finding]:
    """The same pixels in any order: only their statistics are read, not the picture."""
    pixels = inputs.flatten(2)
    order = torch.randperm(pixels.shape[2], generator=torch.Generator().manual_seed(0))
    shuffled = pixels[:, :, order.to(pixels.device)].view_as(inputs)
    with torch.no_grad():
        plain, other = model(inputs).float(), model(shuffled).float()
    if float((plain - other).abs().max()) > SAME * float(plain.abs().max()):
        return []
    text = "images with their pixels shuffled give the same logits"
    advice = "look for a mean or a pooling over the whole image before the first layer"
    return [Finding("input-used", "warn", text, advice, measured=0.0)]


def _entropy(labels: Tensor, classes: int) -> float:
    shares = torch.bincount(labels, minlength=classes).float() / len(labels)
    return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())


def _unread(model: nn.Module, inputs: Tensor) -> list[Finding]:
    """Channels and pixels whose change changes nothing, by the gradient of the logits."""
    images = inputs.clone().requires_grad_()
    logits = model(images)
    if not logits.requires_grad:
        return []
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(
        (logits * weights.to(logits.device)).sum(), images, allow_unused=True
    )
    if gradient is None:
        text = "no gradient flows from the logits to the image"
        return [Finding("input-used", "fail", text, "look for detach or numpy at the input")]
    influence = gradient.abs().amax(0)
    unread = [k for k in range(len(influence)) if float(influence[k].max()) == 0]
    if unread and len(unread) < len(influence):
        text = f"channel {unread[0]} of {len(influence)} has no influence on the logits"
        return [Finding("input-used", "warn", text, "look at how the first layer takes channels")]
    share = float((influence.amax(0) > 0).float().mean())
    if share < READ:
        text = f"only {share:.0%} of the pixels have an influence on the logits"
        advice = "look for a crop, a stride or a pooling that drops the rest"
        return [Finding("input-used", "warn", text, advice, measured=share, expected=1.0)]
    return []


def learns(subject: Subject, attempts: list[Memory]) -> list[Finding]:
    """After a little training, validation accuracy must beat always answering the largest class.

    Shuffled labels can be learnt by heart, and never carry over (Zhang et al. 2017). Whether the
    nearest training image tells the class shows, without the network, if there is a signal.
    """
    val, counts = subject.data.val, torch.bincount(subject.data.val.labels)
    chance = float(counts.max() / counts.sum())
    if chance == 1.0:
        return [Finding("learns", "info", "skipped: all validation images are of one class")]
    if len(val) < ENOUGH_IMAGES:
        text = f"skipped: {len(val)} validation images are too few to tell skill from chance"
        return [Finding("learns", "info", text)]
    best = attempts[-1]
    acc, steps, seconds = _train_briefly(subject, best.lr)
    error = math.sqrt(chance * (1 - chance) / len(val))
    text = f"validation accuracy {acc:.1%} after {steps} steps; the largest class has {chance:.1%}"
    if (acc - chance) / error > ABOVE_CHANCE:
        return [Finding("learns", "ok", text, measured=acc, expected=chance)]
    told = _nearest_accuracy(subject)
    text += f"; the nearest training image is right for {told:.1%}"
    if (told - chance) / error > ABOVE_CHANCE:
        advice = "there is a signal that the network does not find: look at what it is fed"
        severity: Severity = "warn" if best.reached and seconds < LEARN_SECONDS else "info"
        return [Finding("learns", severity, text, advice, measured=acc, expected=chance)]
    severity = "fail" if steps >= LEARN_STEPS else "info"
    advice = "do labels belong to their images? look for shuffling, sorting or an index mixed up"
    return [Finding("learns", severity, text, advice, measured=acc, expected=chance)]


def _train_briefly(subject: Subject, lr: float) -> tuple[float, int, float]:
    """Validation accuracy after 300 steps or 15 seconds, and how many there were of each."""
    learner = Learner.of(subject.recipe, subject.model(), subject.device)
    learner.set_lr(lr)
    train, normalise = subject.data.train, subject.data.normalise
    settings = subject.recipe.augment
    generator = torch.Generator().manual_seed(derive_seed(subject.recipe.seed, "learns"))
    batch = min(LEARN_BATCH, len(train))
    start, step = time.monotonic(), 0
    with seeded(subject.recipe.seed, "learns", device=subject.device):
        while step < LEARN_STEPS and time.monotonic() - start < LEARN_SECONDS:
            order = torch.randperm(len(train), generator=generator)
            for inputs, labels in train.batches(order[: len(order) // batch * batch], batch):
                learner.step(*augment(inputs, labels, settings, normalise, generator))
                step += 1
                if step >= LEARN_STEPS or time.monotonic() - start > LEARN_SECONDS:
                    break
        if batch_norms(learner.model):
            _settle(learner.model, subject.inputs)
    return evaluate(learner.model, subject.data.val).acc, step, time.monotonic() - start


def _nearest_accuracy(subject: Subject) -> float:
    train = draw_images(subject.data.train, NEIGHBOURS, subject.recipe.seed)
    val = draw_images(subject.data.val, NEIGHBOURS, subject.recipe.seed)
    return float((nearest_labels(val[0], *train) == val[1]).float().mean())
