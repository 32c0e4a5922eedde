"""Steps of cnntune on the pretend accelerator: prints what each waited for, as JSON.

    python pretend_steps.py training
    python pretend_steps.py checks

{"name of a step": {"error": "", "found": {"what": {"file:line": times}}}}. An error is one of
torch, such as that of an operation on two devices.
"""

import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from augmentations import AUGMENTATIONS
from pretend_device import DEVICE, Watched, pretending, there

from cnntune.config.recipe import Recipe, parse
from cnntune.data.parts import Data, Normalise, ResidentPart
from cnntune.data.source import Images
from cnntune.models.pretrained.blocks import head_of
from cnntune.steps import sanity
from cnntune.steps.inspect.cost import time_step
from cnntune.steps.sanity import references, tiny
from cnntune.steps.sanity.subject import Cost, Subject
from cnntune.steps.sanity.thumbnails import draw_images
from cnntune.steps.sweep_recipe import try_rate
from cnntune.training.build import build_model
from cnntune.training.evaluate import evaluate
from cnntune.training.linear_probe import features_of
from cnntune.training.loop import Learner, _train_epoch, train
from cnntune.training.tta import views

SIDE, CLASSES, BATCH, STEPS = 16, 10, 32, 3
WIDTH = 4
COST = Cost(image=0.005, update=0.005)  # so that few steps fit into the time of a rule


def recipe_of(**sections: dict[str, Any]) -> Recipe:
    values = {
        "model": {"name": "small-cnn", "width": WIDTH},
        "train": {"batch_size": BATCH, "precision": "float32", "epochs": 2, "threads": 1},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return parse(values, file="pretend")


def part(images: int) -> ResidentPart:
    labels = torch.arange(images) % CLASSES
    pixels = there(images, 3, SIDE, SIDE, dtype=torch.uint8)
    on_device = Images(pixels, there(images, dtype=torch.int64))
    return ResidentPart(on_device, labels, NORMALISE)


NORMALISE = Normalise(there(1, 3, 1, 1), there(1, 3, 1, 1))
DATA = Data(
    part(BATCH * STEPS), part(64), part(64), tuple("0123456789"), (3, SIDE, SIDE), NORMALISE
)


def epoch(settings: dict[str, Any], **more: dict[str, Any]) -> None:
    """One epoch of three steps."""
    recipe = recipe_of(augment=settings, **more)
    learner = Learner.of(recipe, build_model(recipe, DATA), DEVICE)
    _train_epoch(learner, recipe, DATA, 1)


def whole_run() -> None:
    recipe = recipe_of(train={"ema": 0.9, "grad_clip": 1.0, "schedule": "cosine"})
    list(train(recipe, DATA, DEVICE))


def ten_crops() -> None:
    recipe = recipe_of(test={"views": "ten-crop", "scales": [1.0, 1.2]})
    model = build_model(recipe, DATA).to(DEVICE)
    evaluate(model, DATA.val, views=views(recipe.test, NORMALISE.black))


def features() -> None:
    model = build_model(recipe_of(), DATA).to(DEVICE)
    features_of(model, head_of(model), DATA)


def inspect() -> None:
    recipe = recipe_of()
    learner = Learner.of(recipe, build_model(recipe, DATA), DEVICE)
    time_step(learner, *next(DATA.train.batches(torch.arange(BATCH), BATCH)), 1_000_000)


def training() -> dict[str, Callable[[], object]]:
    steps: dict[str, Callable[[], object]] = {
        f"epoch: {name}": partial(epoch, settings) for name, settings in AUGMENTATIONS.items()
    }
    for optimizer in ("sgd", "adam", "adamw"):
        more = {"optimizer": optimizer, "ema": 0.9, "grad_clip": 1.0, "weight_decay": 0.01}
        steps[f"epoch: {optimizer}"] = partial(epoch, {}, train=more)
    return steps | {
        "run": whole_run,
        "ten-crop": ten_crops,
        "features": features,
        "lr-sweep": partial(try_rate, recipe_of(), DATA, DEVICE, 0.1, 0, STEPS),
        "inspect": inspect,
    }


def checks() -> dict[str, Callable[[], object]]:
    # Hundreds of steps of a FakeTensor take a minute.
    references.PLAIN_STEPS = STEPS
    tiny.TINY_SECONDS = 5.0
    recipe = recipe_of(augment={"crop": 2})
    examined = Subject(recipe, DATA, DEVICE, COST, *draw_images(DATA.train, 16, 0))
    overfit = tiny.overfit_tiny_batch(examined)
    plain = sanity.DATA_RULES | sanity.FIRST_RULES | sanity.NETWORK_RULES
    steps: dict[str, Callable[[], object]] = {
        name: partial(rule, examined) for name, rule in plain.items()
    }
    return steps | {
        name: partial(rule, examined, overfit) for name, rule in sanity.TRAINED_RULES.items()
    }


def attempt(watched: Watched, work: Callable[[], object]) -> dict[str, Any]:
    watched.found.clear()
    error = ""
    try:
        work()
    except Exception as raised:  # noqa: BLE001 - whatever torch raises
        frames = traceback.extract_tb(raised.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
        error = f"{type(raised).__name__}: {raised} ({' > '.join(places)})"
    found = {what: dict(places) for what, places in watched.found.items()}
    return {"error": error, "found": found}


def main() -> None:
    with pretending() as watched:
        steps = {"training": training, "checks": checks}[sys.argv[1]]()
        done = {name: attempt(watched, work) for name, work in steps.items()}
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
