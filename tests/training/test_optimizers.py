"""Our optimizers beside those of torch, which they must not differ from."""

import copy
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnntune.training.optimizers import SGD, Adam, AdamW, Group, Optimizer

OURS: dict[str, Callable[[list[Group]], Optimizer]] = {
    "sgd": lambda groups: SGD(groups, momentum=0.9),
    "sgd without momentum": lambda groups: SGD(groups, momentum=0.0),
    "adam": Adam,
    "adamw": AdamW,
}
THEIRS: dict[str, Callable[[list[Group]], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "sgd without momentum": lambda groups: torch.optim.SGD(groups),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def groups(model: nn.Module) -> list[Group]:
    parameters = list(model.parameters())
    return [
        {"params": parameters[::2], "lr": 0.05, "weight_decay": 0.1},
        {"params": parameters[1::2], "lr": 0.02, "weight_decay": 0.0},
    ]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def descend(model: nn.Module, optimizer: Optimizer | torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(8, 5, generator=generator)
        labels = torch.randint(0, 3, (8,), generator=generator)
        # The first layer gets no gradient at first, as where a backbone is thawed later.
        model[0].requires_grad_(step >= 5)  # type: ignore[index]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("name", OURS)
def test_twenty_steps_end_where_torchs_optimizer_ends(name: str) -> None:
    ours, theirs = network(), network()
    descend(ours, OURS[name](groups(ours)), range(20))
    descend(theirs, THEIRS[name](groups(theirs)), range(20))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", OURS)
def test_an_optimizer_goes_on_from_its_state(name: str) -> None:
    whole, halves = network(), network()
    descend(whole, OURS[name](groups(whole)), range(20))
    first = OURS[name](groups(halves))
    descend(halves, first, range(8))
    first.param_groups[0]["lr"] = 0.03  # a schedule's; it has to come along
    state = copy.deepcopy(first.state_dict())
    second = OURS[name](groups(halves))
    second.load_state_dict(state)
    assert second.param_groups[0]["lr"] == 0.03
    second.param_groups[0]["lr"] = 0.05
    descend(halves, second, range(8, 20))
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_training_and_observing_never_import_torchs_compiler() -> None:
    # It takes longer to import than many a trial to train.
    code = """if True:
        import sys, torch
        from cnntune.steps import sweep_recipe
        from cnntune.steps.sanity.record import Recorder
        from cnntune.training import build, open_recipe, precision
        from cnntune.training.loop import train
        sets = ["data.size=100", "train.epochs=1", "train.ema=0.9"]
        recipe = open_recipe.load_recipe("digits", sets)
        cpu = torch.device("cpu")
        data = build.load_data(recipe, cpu)
        recipe = precision.resolve(recipe, data, cpu)
        precision.apply(recipe)
        list(train(recipe, data, cpu))
        next(sweep_recipe.sweep(recipe, data, cpu))
        with Recorder(lambda: "conv1"):
            torch.ones(2, 2).clone()
        heavy = {"torch._dynamo", "torch._inductor.config", "torchvision", "sklearn"}
        print(*heavy & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_channels_last_velocity_stays_channels_last() -> None:
    convolution = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    optimizer = SGD([{"params": [convolution.weight], "lr": 0.1, "weight_decay": 0.0}], 0.9)
    convolution(torch.ones(1, 4, 5, 5)).sum().backward()
    optimizer.step()
    (memory,) = optimizer.state_dict()["memories"]
    assert memory["velocity"].is_contiguous(memory_format=torch.channels_last)
