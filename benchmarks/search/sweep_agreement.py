"""Does `lr-sweep` over a script pick the learning rate of the same network as a recipe?

Each task is trained both ways: by a recipe, and by a plain PyTorch script with the same images,
network, batch size and optimizer. Printed are both learning rates and their distance in decades.

    python benchmarks/search/sweep_agreement.py
"""

import json
import math
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

NETWORKS = {
    "small-cnn": 'name = "small-cnn"\nwidth = 16\ndepth = 3',
    "lenet5": 'name = "lenet5"',
}
BUILD = {
    "small-cnn": "small_cnn(num_classes=10, in_shape=(1, 8, 8), width=16, depth=3)",
    "lenet5": "lenet5(num_classes=10, in_shape=(1, 8, 8))",
}
OPTIMIZERS = {
    "sgd": ("momentum = 0.9", "SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)"),
    "sgd, no momentum": ("momentum = 0.0", "SGD(net.parameters(), lr=0.01, weight_decay=1e-4)"),
    "adam": ("", "Adam(net.parameters(), lr=0.01, weight_decay=1e-4)"),
    "adamw": ("", "AdamW(net.parameters(), lr=0.01, weight_decay=1e-4)"),
}
RECIPE = """
name = "agreement"
[data]
name = "digits"
val_fraction = 0.2
test_fraction = 0.2
[model]
{network}
[train]
optimizer = "{optimizer}"
{momentum}
weight_decay = 1e-4
batch_size = 64
"""
SCRIPT = """
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from cnntune.models.classics import lenet5
from cnntune.models.small import small_cnn

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)[:1079]
images = (images - images.mean()) / images.std()
train = TensorDataset(images, torch.tensor(labels)[:1079])
net = {build}
optimizer = torch.optim.{optimizer}
for epoch in range(100):
    for x, y in DataLoader(train, 64, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
"""


def picked(words: list[str], folder: Path) -> float | None:
    """The learning rate that `cnntune lr-sweep` picks."""
    command = [sys.executable, "-m", "cnntune", "lr-sweep", "--json", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    lr: float | None = document["lr"]
    return lr


def main() -> None:
    """Print a line per task, and how many agree."""
    agreeing, tasks = 0, list(product(NETWORKS, OPTIMIZERS))
    for network, optimizer in tasks:
        momentum, made = OPTIMIZERS[optimizer]
        name = optimizer.partition(",")[0]
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home)
            recipe = RECIPE.format(network=NETWORKS[network], optimizer=name, momentum=momentum)
            (folder / "same.toml").write_text(recipe)
            (folder / "same.py").write_text(SCRIPT.format(build=BUILD[network], optimizer=made))
            ours = picked(["same.toml"], folder)
            theirs = picked(["--", sys.executable, "same.py"], folder)
        apart = abs(math.log10(ours / theirs)) if ours and theirs else math.inf
        agreeing += apart <= 0.5  # a factor of 3.2
        print(
            f"{network:10} {optimizer:17} recipe {ours}  script {theirs}  {apart:.2f}", flush=True
        )
    print(f"{agreeing} of {len(tasks)} within half a decade")


if __name__ == "__main__":
    main()
