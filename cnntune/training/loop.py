"""The training loop: `for epoch in train(recipe, data, device)`."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from cnntune.config.recipe import AugmentSection, Recipe, TrainSection
from cnntune.data import Data
from cnntune.data.augment import Augmentation, Targets
from cnntune.errors import StudyError, UserCodeError
from cnntune.models.pretrained.blocks import head_of, rate_factors, train_from_head
from cnntune.runs.run import Epoch, best_epoch
from cnntune.seeds import derive_seed
from cnntune.training import checkpoint
from cnntune.training.build import Loss, build_loss, build_model
from cnntune.training.contracts import (
    check_depends,
    check_logits,
    check_trained_logits,
    is_own,
    user_code_of,
)
from cnntune.training.device import seeded
from cnntune.training.ema import WeightEma
from cnntune.training.evaluate import evaluate
from cnntune.training.linear_probe import features_of
from cnntune.training.optimizers import SGD, Adam, AdamW, Optimizer
from cnntune.training.precision import autocast, check_resolved
from cnntune.training.schedule import rate_factor
from cnntune.user_code.borders import border

CLEAN_IMAGES = 1000  # training images measured each epoch like validation images: 1.6 points of
# standard error at worst, and the cost of a forward pass
CHECK_EVERY = 50  # steps between checks of the loss: each check waits for the device


def train(
    recipe: Recipe,
    data: Data,
    device: torch.device,
    *,
    model: nn.Module | None = None,
    saved: Path | None = None,
) -> Iterator[Epoch]:
    """Train a resolved recipe (`precision.resolve`) and yield a row after each epoch.

    `data` was loaded for the recipe, so that `[augment]` fits the images.

    `model` is trained in place; left out, the recipe's model is built from its seed. A NaN or
    infinite loss yields one row with NaN, and ends the run. On the CPU the same recipe, seed
    and number of threads give the same rows, bit for bit: each epoch draws its order, augmentation
    and dropout from (seed, epoch) alone.

    With `train.ema`, weights are averaged: whenever a row is yielded, and at the end, `model` holds
    the averages, which the row was measured with. With `train.patience`, a run ends after so many
    epochs without a better one than the best (`best_epoch`: validation accuracy first).

    With a file `saved`, the state after each epoch but the last is written there before its row is
    yielded. A run whose state is there yields the rows in it, and resumes after them.

    Raises:
        StudyError: where the state in `saved` is of another model.
        UserCodeError: where the model has nothing to train or gives no logits `[N, classes]`.
    """
    check_resolved(recipe)
    model = build_model(recipe, data) if model is None else model
    learner = Learner.of(recipe, model, device)
    with seeded(recipe.seed, "check", device=device):
        check_logits(model, few_images(data), len(data.classes), recipe.model.name)
    learner, data = _with_features(recipe, learner, data)
    clean = clean_indices(len(data.train), recipe.data.seed)
    found = checkpoint.load(saved) if saved else None
    rows: list[Epoch] = []
    if found:
        state, rows = found
        try:
            learner.restore(state)
        except (RuntimeError, ValueError, KeyError):
            raise StudyError(
                f"{saved}: does not fit the model, whose code has changed since; remove the file"
                " to train from the start"
            ) from None
        yield from rows
    while len(rows) < recipe.train.epochs and not _is_over(rows, recipe.train.patience):
        start = time.perf_counter()
        number = len(rows) + 1
        if rows:
            learner.swap_ema()  # back from the averages to the weights that are trained
        grad_norm = _train_epoch(learner, recipe, data, number)
        learner.swap_ema()
        scores = (math.nan,) * 4
        if math.isfinite(grad_norm):
            # User data that augments itself draws here too.
            with seeded(recipe.seed, "evaluate", number, device=device):
                precision = recipe.train.precision
                on_train = evaluate(learner.model, data.train, clean, precision=precision)
                on_val = evaluate(learner.model, data.val, precision=precision)
            scores = (on_train.loss, on_train.acc, on_val.loss, on_val.acc)
        rows.append(Epoch(number, learner.lr, *scores, grad_norm, time.perf_counter() - start))
        if saved and number < recipe.train.epochs and not rows[-1].diverged:
            checkpoint.save(saved, learner.state(), rows)
        yield rows[-1]


def _is_over(rows: list[Epoch], patience: int) -> bool:
    """Whether the run diverged, or its patience is used up."""
    if not rows:
        return False
    best = best_epoch(rows)
    return best is None or 0 < patience <= len(rows) - best.epoch


def _with_features(recipe: Recipe, learner: "Learner", data: Data) -> tuple["Learner", Data]:
    """The head alone with features as data, where training changes nothing but the head.

    Without augmentation a frozen backbone computes the same features in each epoch.
    """
    settings = recipe.train
    frozen = settings.freeze == "backbone" and not settings.unfreeze_every
    if frozen and recipe.augment == AugmentSection():
        head = head_of(learner.model)
        features = features_of(learner.model, head, data)
        if features is not None:
            return Learner.of(recipe, head, learner.device), features
    return learner, data


@dataclass(frozen=True)
class Learner:
    """A network with its optimizer and loss: everything a training step needs."""

    model: nn.Module
    optimizer: Optimizer
    loss: Loss
    settings: TrainSection
    device: torch.device
    ema: WeightEma | None = None
    user_code: str | None = None  # what of it a step runs, in words
    name: str = ""  # the recipe's, of the model

    @classmethod
    def of(cls, recipe: Recipe, model: nn.Module, device: torch.device) -> "Learner":
        """The recipe's optimizer and loss around `model`, which moves to `device`.

        Raises:
            UserCodeError: where no parameter asks for a gradient.
        """
        model.to(device)
        if not is_own(recipe.model.name):  # user code may take the default layout for granted
            model.to(memory_format=torch.channels_last)
        settings = recipe.train
        factors = None
        if recipe.model.weights:
            factors = rate_factors(model, settings.backbone_lr, settings.layer_decay)
        optimizer = build_optimizer(model, settings, factors)
        ema = WeightEma(model, settings.ema) if settings.ema else None
        loss, user_code = build_loss(recipe), user_code_of(recipe)
        name = recipe.model.name
        return cls(model, optimizer, loss, settings, device, ema, user_code, name)

    @property
    def lr(self) -> float:
        """The learning rate of the last step, in the head."""
        group = self.optimizer.param_groups[0]
        return float(group["lr"] / group["factor"])

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]

    def state(self) -> dict[str, Any]:
        """Everything that training changes: what a checkpoint holds."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.ema:
            state |= {"averages": self.ema.averages, "steps": self.ema.steps}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.restore(state["averages"], state["steps"])

    def begin(self, epoch: int) -> None:
        """Set training mode for the layers that are trained in this epoch (counted from 1)."""
        every = self.settings.unfreeze_every
        if self.settings.freeze == "none":
            self.model.train()
        else:
            groups = self.optimizer.param_groups
            trainable = {parameter for group in groups for parameter in group["params"]}
            train_from_head(self.model, (epoch - 1) // every if every else 0, trainable)

    def swap_ema(self) -> None:
        """Exchange the weights and their averages, where there are any."""
        if self.ema:
            self.ema.swap()

    def step(self, inputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Forward, backward, clip, update. `targets` are labels, or those of mixed images.

        Returns the loss and the norm of the gradient before clipping, as scalars on the device.
        """
        # The backward pass of user code may raise here, without a frame of the user's.
        with border(self.user_code and f"a training step with {self.user_code}"):
            with autocast(self.settings.precision, self.device):
                logits = self.model(inputs)
                check_trained_logits(logits, len(inputs), self.name)
                loss = self.loss(logits, targets)
            check_depends(loss, self.name)
            self.optimizer.zero_grad()
            loss.backward()
        weights = [p for p in self.optimizer.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
        if self.settings.grad_clip:
            nn.utils.clip_grads_with_norm_(weights, self.settings.grad_clip, norm)
        self.optimizer.step()
        if self.ema:
            self.ema.update()
        return loss.detach(), norm


def _train_epoch(learner: Learner, recipe: Recipe, data: Data, number: int) -> float:
    """One pass over the training set.

    Returns the mean norm of the gradient; NaN as soon as a check finds the loss NaN or infinite.
    """
    settings = recipe.train
    steps = steps_per_epoch(len(data.train), settings.batch_size)
    warmup_steps = round(settings.warmup_epochs * steps)
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "epoch", number))
    order = torch.randperm(len(data.train), generator=generator)[: steps * settings.batch_size]
    augmentation = Augmentation.of(recipe.augment, data.normalise)
    counts = [len(batch) for batch in order.split(settings.batch_size)]
    draws = augmentation.draw(counts, data.train.image_size, generator, learner.device)
    norm_sum = torch.zeros((), device=learner.device)
    learner.begin(number)
    with seeded(recipe.seed, "dropout", number, device=learner.device):
        for step, (inputs, labels) in enumerate(data.train.batches(order, settings.batch_size)):
            done = (number - 1) * steps + step
            factor = rate_factor(settings.schedule, done, settings.epochs * steps, warmup_steps)
            learner.set_lr(settings.lr * factor)
            loss, norm = learner.step(*augmentation.apply(inputs, labels, draws[step]))
            norm_sum += norm
            check = step == steps - 1 or step % CHECK_EVERY == 0
            if check and not math.isfinite(float(loss)):
                return math.nan
    return float(norm_sum) / steps


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches only: the images left over in a shuffled epoch are left out of it."""
    return max(1, images // batch_size)


def build_optimizer(
    model: nn.Module,
    settings: TrainSection,
    factors: Mapping[nn.Parameter, float] | None = None,
) -> Optimizer:
    """The recipe's optimizer; norms and biases (one-dimensional) are not decayed.

    `factors` multiply the learning rates of parameters; 1 where left out.

    Raises:
        UserCodeError: where no parameter asks for a gradient.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise UserCodeError("model: has no trainable parameters")
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in trainable:
        kind = (factors[parameter] if factors else 1.0, parameter.ndim > 1)
        members.setdefault(kind, []).append(parameter)
    groups = [
        {
            "params": members[factor, decayed],
            "lr": settings.lr * factor,
            "factor": factor,
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for factor, decayed in sorted(members, reverse=True)
    ]
    if settings.optimizer == "sgd":
        return SGD(groups, settings.momentum)
    if settings.optimizer == "adam":
        return Adam(groups)
    if settings.optimizer == "adamw":
        return AdamW(groups)
    assert_never(settings.optimizer)


def clean_indices(images: int, seed: int) -> Tensor:
    """The fixed training images that every epoch is measured on, int64 `[at most 1000]`."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "clean"))
    return torch.randperm(images, generator=generator)[:CLEAN_IMAGES]


def few_images(data: Data) -> Tensor:
    """Two training images as the network sees them, for a first check of its logits."""
    inputs, _ = next(data.train.batches(torch.arange(min(2, len(data.train))), 2))
    return inputs
