"""Lecture steps 1 and 2: the initial loss is about log C, and a tiny sample can be overfitted."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.build import build_loss, build_model, user_code
from cnntune.data import Data
from cnntune.findings import Finding, Severity
from cnntune.recipe import Recipe
from cnntune.seeds import derive_seed
from cnntune.train import Learner, check_logits, seeded

LOSS_IMAGES = 256  # for the initial loss; the mean over 64 and more is within a few per cent
INITIALISATIONS = 3  # one draw of the weights may be an outlier
LOSS_TOLERANCE = 0.3  # nats off log C: logits of standard deviation 0.8, as random heads have
HOT_LOGITS = 4.0  # standard deviation; healthy torchvision models at random weights reach 3.3
COOL_LOGITS = 0.3  # standard deviation that adds 0.3^2 / 2 = 0.045 to log C
EQUAL_LOSS_TOLERANCE = 0.05  # of log C: a cross-entropy of equal logits is log C exactly

TINY_IMAGES = 32  # CS231n step 2: "a small sample, 10-100 examples"
TINY_STEPS = 200  # for each rate; a network that learns needs 20 to 100
TINY_LOSS = 0.02  # nats: every image has 98 % of the probability on its label
TINY_RATES = (1.0, 0.1, 3.0, 0.01)  # times the recipe's rate, which nobody has tuned yet
TINY_LOOK = 10  # steps between looks at the loss


def check(recipe: Recipe, data: Data, device: torch.device) -> Iterator[Finding]:
    """Every check of a set-up, on models of its own; nothing of the user's is changed.

    Raises:
        UserCodeError: where own model or loss code raises, or the model gives no logits.
    """
    with user_code("sanity"):
        check_logits(build_model(recipe, data).to(device), data)
        yield initial_loss(recipe, data, device)
        yield overfit_tiny(recipe, data, device)


def initial_loss(recipe: Recipe, data: Data, device: torch.device) -> Finding:
    """A network that knows nothing gives each class 1/C, so its loss is log C.

    Judged in train mode, as training will see it: at random weights, running statistics of batch
    norms are no statistics, and healthy networks reach 1e9 in eval mode. Logits that are large by
    chance, of standard deviation s, raise the loss by s^2/2; that is a hot head and no broken loss.
    """
    expected = math.log(len(data.classes))
    inputs, labels = _first_images(data, LOSS_IMAGES, recipe.seed)
    equal = float(build_loss(recipe)(torch.zeros(len(labels), len(data.classes)), labels.cpu()))
    if not abs(equal - expected) <= EQUAL_LOSS_TOLERANCE * expected:
        return _own_loss(equal, expected, len(labels))
    losses, spreads = [], []
    for draw in range(INITIALISATIONS):
        seed = derive_seed(recipe.seed, "initial-loss", draw)
        model = build_model(recipe, data, seed=seed).to(device).train()
        with torch.no_grad(), seeded(seed, device=device):
            logits = model(inputs).float()
        losses.append(float(F.cross_entropy(logits, labels)))
        spreads.append(float((logits - logits.mean(1, keepdim=True)).std()))
    return _judge_initial(statistics.median(losses), statistics.median(spreads), len(data.classes))


def _judge_initial(loss: float, spread: float, classes: int) -> Finding:
    expected = math.log(classes)
    evidence = f"loss {loss:.4g}, log({classes}) = {expected:.4g}"
    severity: Severity = "ok"
    advice = ""
    if not math.isfinite(loss):
        severity = "fail"
        advice = "look for a division by zero or an overflow in the model's forward pass"
    elif abs(loss - expected) > LOSS_TOLERANCE:
        severity = "warn" if spread > HOT_LOGITS else "info"
        evidence += f"; logits have a standard deviation of {spread:.2g}"
        advice = f"scale the last layer's initial weights by {COOL_LOGITS / spread:.2g}"
    return Finding("initial-loss", severity, evidence, advice, measured=loss, expected=expected)


def _own_loss(equal: float, expected: float, images: int) -> Finding:
    """A loss of the user's own on equal logits: it may differ from log C, but not in any way."""
    severity: Severity = "fail"
    advice = ""
    evidence = f"your loss is {equal:.4g} on equal logits, a mean cross-entropy {expected:.4g}"
    if math.isclose(equal, expected * images, rel_tol=EQUAL_LOSS_TOLERANCE):
        advice = f"it is summed over {images} images: return their mean"
    elif math.isclose(equal, -expected, rel_tol=EQUAL_LOSS_TOLERANCE):
        advice = "its sign is wrong: training would raise the cross-entropy"
    elif not math.isfinite(equal):
        advice = "it divides by zero or overflows"
    else:
        severity = "ok"
    return Finding("initial-loss", severity, evidence, advice, measured=equal, expected=expected)


def overfit_tiny(recipe: Recipe, data: Data, device: torch.device) -> Finding:
    """A network that cannot learn 32 images by heart will not learn 50,000.

    Augmentation, dropout, weight decay, clipping and label smoothing are off, since each of them
    exists to prevent just this. The recipe's rate may be wrong, so others are tried too.
    """
    images = min(TINY_IMAGES, len(data.train))
    inputs, labels = _first_images(data, images, recipe.seed)
    attempts = []
    for factor in TINY_RATES:
        attempt = _memorise(recipe, data, device, inputs, labels, recipe.train.lr * factor)
        attempts.append(attempt)
        if attempt.reached:
            return Finding(
                "overfit-tiny",
                "ok",
                f"{images} images: loss {attempt.loss:.2g}, accuracy {attempt.acc:.0%} after"
                f" {attempt.steps} steps at rate {attempt.lr:.2g}",
                measured=attempt.loss,
                expected=0.0,
            )
    best = max(attempts, key=lambda attempt: (attempt.acc, -attempt.loss))
    rates = ", ".join(f"{attempt.lr:.2g}" for attempt in attempts)
    return Finding(
        "overfit-tiny",
        "fail",
        f"{images} images: loss {best.loss:.3g}, accuracy {best.acc:.0%} at best, after"
        f" {TINY_STEPS} steps at each of the rates {rates}",
        "do not tune yet: look for a softmax before the loss, labels that do not belong to their"
        " images, frozen or disconnected layers, and inputs of the wrong scale",
        measured=best.loss,
        expected=0.0,
    )


@dataclass(frozen=True)
class _Attempt:
    lr: float
    loss: float
    acc: float
    steps: int

    @property
    def reached(self) -> bool:
        return self.loss <= TINY_LOSS and self.acc == 1.0


def _memorise(
    recipe: Recipe, data: Data, device: torch.device, inputs: Tensor, labels: Tensor, lr: float
) -> _Attempt:
    """Train on one batch until it is known by heart; loss and accuracy are of the training mode."""
    plain = {"weight_decay": 0.0, "label_smoothing": 0.0, "grad_clip": 0.0}
    settings = recipe.train.model_copy(update=plain)
    model = _without_dropout(build_model(recipe, data))
    learner = Learner.of(recipe.model_copy(update={"train": settings}), model, device)
    learner.set_lr(lr)
    model.train()
    loss = acc = math.nan
    with seeded(recipe.seed, "overfit-tiny", device=device):
        for step in range(1, TINY_STEPS + 1):
            look = step % TINY_LOOK == 0
            if look:
                with torch.no_grad():
                    logits = model(inputs).float()
                loss = float(F.cross_entropy(logits, labels))
                acc = float((logits.argmax(1) == labels).float().mean())
                attempt = _Attempt(lr, loss, acc, step)
                if attempt.reached or not math.isfinite(loss):
                    return attempt
            learner.step(inputs, labels)
    return _Attempt(lr, loss, acc, TINY_STEPS)


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model


def _first_images(data: Data, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A fixed draw of training images as the network sees them, without augmentation."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "sanity"))
    count = min(count, len(data.train))
    order = torch.randperm(len(data.train), generator=generator)[:count]
    inputs, labels = next(data.train.batches(order, count))
    return inputs, labels
