"""Write docs/notebook.ipynb: run its cells, and keep what they show.

python docs/write_notebook.py
"""

import os
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat

HERE = Path(__file__).parent
NOTEBOOK = HERE / "notebook.ipynb"
TIMEOUT_SECONDS = 300  # per cell

CELLS = (
    (
        "markdown",
        "# cnntune in a notebook\n"
        "The four calls of [python-api.md](python-api.md), on the digits of scikit-learn. This file"
        " is written and executed by `write_notebook.py`.",
    ),
    (
        "code",
        """import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import cnntune

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
train_loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), 64, shuffle=True)
val_loader = DataLoader(TensorDataset(images[1400:], labels[1400:]), 64)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )


model = network()""",
    ),
    (
        "markdown",
        "## Before training: is the set-up sound?\n"
        "Copies are checked; the model, the loaders and the random numbers stay as they are.",
    ),
    (
        "code",
        "cnntune.sanity(model, train_loader, val_loader, loss=F.cross_entropy)",
    ),
    ("markdown", "A softmax before the cross-entropy is a failure:"),
    (
        "code",
        """wrong = nn.Sequential(network(), nn.Softmax(1))
found = cnntune.sanity(wrong, train_loader, val_loader, loss=F.cross_entropy)
[(one.rule, one.evidence) for one in found.findings if one.severity == "fail"]""",
    ),
    ("markdown", "## Which learning rate?"),
    (
        "code",
        """swept = cnntune.lr_sweep(
    model, train_loader, loss=F.cross_entropy,
    optimizer=lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
)
swept""",
    ),
    ("markdown", "## While it trains: is the loop right?\nThis one does not clear its gradients."),
    (
        "code",
        """def train(model, epochs, clear):
    optimizer = torch.optim.SGD(model.parameters(), lr=swept.lr, momentum=0.9)
    history = []
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch, targets in train_loader:
            if clear:
                optimizer.zero_grad()
            loss = F.cross_entropy(model(batch), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() / len(train_loader)
        model.eval()
        with torch.no_grad():
            losses = [F.cross_entropy(model(batch), targets) for batch, targets in val_loader]
        history.append({"train_loss": total, "val_loss": float(torch.stack(losses).mean())})
    return history


with cnntune.observe() as seen:
    train(network(), epochs=3, clear=False)
seen""",
    ),
    (
        "code",
        """with cnntune.observe() as seen:
    history = train(model, epochs=12, clear=True)
seen""",
    ),
    ("markdown", "## Afterwards: what do the curves show?"),
    ("code", "cnntune.diagnose(history)"),
)


def written() -> Any:
    """The notebook, not executed."""
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    cells = [make[kind](source) for kind, source in CELLS]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # the same each time
    return nbformat.v4.new_notebook(cells=cells)


def executed() -> Any:
    """The notebook with what its cells show; an error in a cell is raised."""
    book = written()
    client = nbclient.NotebookClient(
        book, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": str(HERE)}}
    )
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    client.execute(env={**os.environ, "PYTHONPATH": path})  # the package beside this folder
    for cell in book.cells:
        cell["metadata"] = {}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/plain" in data:  # times differ, and so does the path of a cell
                data["text/plain"] = steady(data["text/plain"])
                if "text/html" in data:
                    data["text/html"] = steady(data["text/html"])
    book["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return book


def steady(text: str) -> str:
    """The text without what differs from run to run."""
    return re.sub(r"\bin \d+ s\b", "in 1 s", re.sub(r"\b\d{6,}\.py:", "cell:", text))


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
    print(NOTEBOOK)
