"""Probes, signs and schedules on small networks and tensors, whose answers are known by hand."""

from typing import Any

import torch
from torch import nn

from cnntune.script import probes, schedules, signs
from cnntune.script.observer.graphs import bare
from cnntune.script.probes import Shown


def batches(*inputs: torch.Tensor, target: torch.Tensor, count: int = 2) -> list[Shown]:
    """Batches from a loader, each with samples of its own."""
    found = []
    for number in range(count):
        rows = [100 * number + i for i in range(len(inputs[0]))]
        shifted = tuple(x + number if x.is_floating_point() else x for x in inputs)
        found.append(Shown(shifted, {}, target, [], rows, len(inputs[0])))
    return found


class LastStep(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.read = nn.GRU(3, 6, batch_first=batch_first)

    def forward(self, x: torch.Tensor) -> Any:
        return self.read(x)[0][:, -1]


def test_a_recurrence_that_takes_the_batch_for_time_mixes_samples() -> None:
    torch.manual_seed(0)
    seen = batches(torch.randn(8, 5, 3), target=torch.zeros(8, dtype=torch.long))
    wrong = probes.mixed(LastStep(batch_first=False).eval(), seen, torch)
    right = probes.mixed(LastStep(batch_first=True).eval(), seen, torch)
    assert wrong is not None
    assert right is not None
    assert wrong["others"] > 0.2
    assert (right["others"], right["moved"], right["own"]) == (0.0, 0.0, 1.0)


def test_an_argument_that_forward_leaves_out_is_found() -> None:
    class Forgets(nn.Module):
        def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            return x * 2

    class Uses(nn.Module):
        def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            return x + condition

    seen = batches(torch.randn(6, 3), torch.randn(6, 3), target=torch.zeros(6))
    assert probes.unused(Forgets(), seen, torch) == {"names": ["argument 2"]}
    assert probes.unused(Uses(), seen, torch) is None


def test_layers_that_read_backwards_see_the_next_input() -> None:
    torch.manual_seed(0)
    text = torch.randint(0, 9, (6, 13))

    class Model(nn.Module):
        def __init__(self, *, both: bool) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 8)
            self.read = nn.GRU(8, 8, batch_first=True, bidirectional=both)

        def forward(self, x: torch.Tensor) -> Any:
            return self.read(self.embed(x))[0]

    seen = batches(text[:, :-1], target=text[:, 1:].reshape(-1))
    both = probes.future(Model(both=True).eval(), seen, torch)
    one = probes.future(Model(both=False).eval(), seen, torch)
    assert both is not None
    assert one is not None
    assert both["early"] > 0.1
    assert (one["early"], one["length"]) == (0.0, 12)


def test_a_column_that_is_the_target_is_found() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 5), torch.randn(40)
    told = x.clone()
    told[:, 3] = 7 * y + 2
    found = probes.columns(batches(told, target=y, count=1), torch)
    assert found is not None
    assert found["column"] == 3
    assert probes.columns(batches(x, target=y, count=1), torch) is None


def test_what_is_no_mask_of_a_picture_is_not_compared_with_it() -> None:
    torch.manual_seed(0)
    row, column = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    centre = 4 + 8 * torch.rand(40, 2, 1, 1)
    masks = ((row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2 < 9).float()[:, None]
    images = masks + 0.1 * torch.randn(40, 1, 16, 16)
    turned = batches(images, target=masks.flip(3), count=1)
    pixels, classes = nn.Conv2d(1, 1, 3, padding=1), nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    found = probes.flips(pixels, turned, torch)
    assert found is not None
    assert found["as_it_is"] < 0.5
    assert probes.flips(classes, turned, torch) is None  # it answers with classes
    views = batches(images, target=images.flip(3) + 0.1, count=1)
    assert probes.flips(pixels, views, torch) is None


def terms(loss: torch.Tensor) -> list[list[Any]]:
    return signs.terms(loss.grad_fn, bare, "no mark", lambda tensor: False, torch)


def test_signs_of_terms_are_followed_through_sums_differences_and_negations() -> None:
    x = torch.randn(5, requires_grad=True)
    (square,) = terms(1.0 - 2 * (-(x**2)).mean())
    assert square[:3] == ["a square", 1, 2.0]
    (square,) = terms((1.0 - x**2).sum())
    assert square[:3] == ["a square", -1, 1.0]
    assert terms(-torch.exp(-(x**2)).mean()) == []  # it has an end
    assert terms((x * x.sigmoid()).sum()) == []  # a product of two unknowns


def test_a_schedule_is_followed_to_its_end_without_touching_that_of_the_script() -> None:
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1.0, (n + 1) / 200))
    before = optimizer.param_groups[0]["lr"], scheduler.last_epoch
    plan = schedules.to_the_end(scheduler, 0.0005, 0, 1.0, 8, torch)
    assert (optimizer.param_groups[0]["lr"], scheduler.last_epoch) == before
    assert plan["total"] == 8
    assert abs(plan["highest"] - 0.1 * 8 / 200) < 1e-9  # the rates before each of 8 epochs
    assert abs(plan["at_last"] - 0.1) < 1e-9
