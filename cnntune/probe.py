"""What the largest trial of a search takes on a GPU, tried out in a process of its own."""

from collections.abc import Sequence

import torch

from cnntune.arithmetic import settle
from cnntune.borders import explaining
from cnntune.build import build_model, load_data
from cnntune.capacity import CONTEXT_BYTES
from cnntune.evaluate import evaluate
from cnntune.recipe import Recipe
from cnntune.train import Learner

STEPS = 2  # the optimizer's state is there after the first


def probe(recipe: Recipe, places: Sequence[str]) -> tuple[int, list[int]]:
    """The bytes that a trial held, and those that each GPU had free before it.

    Runs in a fresh process, which nothing else fills, and which frees all of it when it ends.

    Raises:
        CnntuneError: where the trial cannot be trained, or finds no memory at all.
    """
    # The contexts of this very process are in use while it asks, and free when it has ended.
    free = [torch.cuda.mem_get_info(torch.device(gpu))[0] + CONTEXT_BYTES for gpu in places]
    device = torch.device(places[0])
    with explaining():
        try_out(recipe, device)
    return torch.cuda.max_memory_reserved(device), free


def try_out(recipe: Recipe, device: torch.device) -> None:
    """The most that a run of the recipe holds at a time, for a moment."""
    data = load_data(recipe, device)
    recipe = settle(recipe, data, device)
    learner = Learner.of(recipe, build_model(recipe, data), device)
    learner.begin(1)
    size = recipe.train.batch_size
    for _ in range(STEPS):
        inputs, labels = next(data.train.batches(torch.arange(min(size, len(data.train))), size))
        learner.step(inputs, labels)
    evaluate(learner.model, data.val)
