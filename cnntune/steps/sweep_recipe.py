"""The learning rates of `lr-sweep` on a recipe: the same initial weights and batches for each."""

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.data.augment import Augmentation
from cnntune.seeds import derive_seed
from cnntune.steps.lr_sweep import CHECK_EVERY, ITERATIONS, RateCurve, Try, measured
from cnntune.training.build import build_model
from cnntune.training.contracts import check_logits
from cnntune.training.device import seeded
from cnntune.training.loop import Learner, few_images
from cnntune.training.precision import check_resolved
from cnntune.user_code.borders import explaining
from cnntune.workers.fork_map import spread

WEIGHT_DECAY = 1e-4  # CS231n step 3: "turn on small weight decay"


def sweep(
    recipe: Recipe, data: Data, device: torch.device, *, processes: int = 1
) -> Iterator[RateCurve]:
    """Try the grid, then what `lr_sweep.next_tries` returns; yield each curve as it is measured.

    The curves and their order do not depend on the number of processes.

    Raises:
        UserCodeError: if the user's model or loss code raises, or returns what cannot be trained.
        OutOfMemoryError: if the model or a batch does not fit in memory.
        DeviceError: if a process dies.
    """
    check_resolved(recipe)
    with explaining():
        model = build_model(recipe, data).to(device)
        check_logits(model, few_images(data), len(data.classes), recipe.model.name)

    needed = replace(data, val=data.train, test=None)  # the sets that a process needs
    tried = functools.partial(_tried, recipe, needed, device)
    with spread(tried, processes=processes) as tried_all:
        yield from measured(tried_all)


def _tried(recipe: Recipe, data: Data, device: torch.device, what: Try) -> RateCurve:
    with explaining():
        return try_rate(recipe, data, device, *what)


def try_rate(
    recipe: Recipe,
    data: Data,
    device: torch.device,
    lr: float,
    repeat: int = 0,
    iterations: int = ITERATIONS,
) -> RateCurve:
    """Train from the initial weights of a seed at a constant learning rate."""
    seed = recipe.seed + repeat
    settings = recipe.train.model_copy(update={"weight_decay": WEIGHT_DECAY})
    model = build_model(recipe, data, seed=seed)
    learner = Learner.of(recipe.model_copy(update={"train": settings}), model, device)
    learner.set_lr(lr)
    learner.begin(1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "lr-sweep"))
    batch = min(settings.batch_size, len(data.train))
    order = _endless_order(len(data.train), batch, iterations, generator)
    augmentation = Augmentation.of(recipe.augment, data.normalise)
    counts = [len(chosen) for chosen in order.split(batch)]
    draws = augmentation.draw(counts, data.train.image_size, generator, device)
    losses: list[Tensor] = []
    start = time.monotonic()
    with seeded(seed, "lr-sweep", device=device):
        for (inputs, labels), drawn in zip(data.train.batches(order, batch), draws, strict=True):
            loss, _ = learner.step(*augmentation.apply(inputs, labels, drawn))
            losses.append(loss)
            if len(losses) % CHECK_EVERY == 0 and not math.isfinite(float(loss)):
                break
    values = torch.stack(losses).float().tolist()
    return RateCurve(lr, values, repeat, iterations, time.monotonic() - start)


def _endless_order(images: int, batch: int, count: int, generator: torch.Generator) -> Tensor:
    """Image indices of `count` batches, over epochs without their incomplete last batches."""
    steps = max(1, images // batch)
    epochs = [
        torch.randperm(images, generator=generator)[: steps * batch]
        for _ in range(math.ceil(count / steps))
    ]
    return torch.cat(epochs)[: count * batch]
