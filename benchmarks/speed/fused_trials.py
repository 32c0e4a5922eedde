"""Would it pay to train several networks as one? Five of `small-cnn` as a grouped convolution.

    python benchmarks/speed/fused_trials.py [--rounds 5] [--write]

A fused network holds five networks side by side: convolutions with five groups, one norm over all
channels, a batched product for the heads, one loss for each. A step is forward, backward and
update with one thread. The ratio is the time of five separate steps, channels-last in float32,
over that of the fused one: above 1 fusing pays. `torch.func.vmap` does the same to any network,
without being rewritten.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from measure import ratio, report, table
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

MEMBERS = 5  # the rates of lecture step 3
CASES = {  # channels, pixels, width, batch
    "digits, width 32, batch 64": (1, 8, 32, 64),
    "digits, width 32, batch 16": (1, 8, 32, 16),
    "digits, width 8, batch 64": (1, 8, 8, 64),
    "digits, width 64, batch 64": (1, 8, 64, 64),
    "3x32x32, width 32, batch 64": (3, 32, 32, 64),
}
CLASSES = 10


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--write", action="store_true")
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, (channels, pixels, width, batch) in CASES.items():
        inputs = torch.randn(batch, channels, pixels, pixels)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(CLASSES, (batch,))
        contenders = {
            "separate": separate(channels, width, inputs, labels, lower=False),
            "separate, bfloat16": separate(channels, width, inputs, labels, lower=True),
            "fused": fused(channels, width, inputs, labels, lower=False),
            "fused, bfloat16": fused(channels, width, inputs, labels, lower=True),
            "vmap": mapped(channels, width, inputs, labels),
        }
        times: dict[str, list[float]] = {title: [] for title in contenders}
        for _ in range(asked.rounds):
            for title, step in contenders.items():
                times[title].append(seconds(step, 40 if pixels < 16 else 6))
        rows.append(
            [name, f"{1000 * median(times['separate']):.1f}"]
            + [ratio(times["separate"], times[title]) for title in list(contenders)[1:]]
        )
    header = ("network", "separate ms", "separate, bfloat16", "fused", "fused, bfloat16", "vmap")
    report("fused_trials", table(header, rows), write=asked.write)


def seconds(step: Callable[[], None], count: int) -> float:
    step()
    start = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - start) / count


def trunk(channels: int, width: int, members: int) -> nn.Sequential:
    """The layers of `small-cnn` without its head; the first sees the same images for all."""

    def layers(inputs: int, groups: int, *, halve: bool) -> list[nn.Module]:
        out = width * members
        convolution = nn.Conv2d(inputs, out, 3, padding=1, groups=groups, bias=False)
        pool: list[nn.Module] = [nn.MaxPool2d(2)] if halve else []
        return [convolution, *pool, nn.BatchNorm2d(out), nn.ReLU()]

    inside = width * members
    return nn.Sequential(
        *layers(channels, 1, halve=True),
        *layers(inside, members, halve=False),
        *layers(inside, members, halve=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def fused(
    channels: int,
    width: int,
    inputs: Tensor,
    labels: Tensor,
    *,
    lower: bool,
    members: int = MEMBERS,
) -> Callable[[], None]:
    model = trunk(channels, width, members).to(memory_format=torch.channels_last)
    heads = nn.Parameter(0.01 * torch.randn(members, width, CLASSES))
    parameters = [*model.parameters(), heads]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            features = model(inputs).view(len(inputs), members, width).transpose(0, 1)
            logits = torch.bmm(features, heads.to(features.dtype)).float()
        losses = [F.cross_entropy(member, labels) for member in logits]
        update(torch.stack(losses).sum(), parameters)

    return step


def separate(
    channels: int, width: int, inputs: Tensor, labels: Tensor, *, lower: bool
) -> Callable[[], None]:
    steps = [fused(channels, width, inputs, labels, lower=lower, members=1) for _ in range(MEMBERS)]
    return lambda: [step() for step in steps].clear()


def update(loss: Tensor, parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    with torch.no_grad():
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_add_(list(parameters), gradients, alpha=-0.01)


def mapped(channels: int, width: int, inputs: Tensor, labels: Tensor) -> Callable[[], None]:
    """Without running statistics, which `vmap` refuses to change in place."""
    models = [
        nn.Sequential(trunk(channels, width, 1), nn.Linear(width, CLASSES)) for _ in range(MEMBERS)
    ]
    for model in models:
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    parameters, buffers = stack_module_state(models)

    def loss_of(values: dict[str, Tensor], kept: dict[str, Tensor]) -> Tensor:
        logits = functional_call(models[0], (values, kept), (inputs,))
        return F.cross_entropy(logits, labels)

    gradient = vmap(grad(loss_of))

    def step() -> None:
        found = gradient(parameters, buffers)
        with torch.no_grad():
            torch._foreach_add_(list(parameters.values()), list(found.values()), alpha=-0.01)

    return step


if __name__ == "__main__":
    main()
