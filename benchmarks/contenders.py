"""The images that cnntune and its peers get, and how each of them is called."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnntune.build import load_data
from cnntune.data import Data
from cnntune.data.parts import ResidentPart
from cnntune.recipe import parse

PEERS = Path(__file__).parent / "peers"
CPU = torch.device("cpu")
RECIPE = """
name = "{name}"
[data]
name = "npz"
path = "{path}"
{augment}
[train]
batch_size = 64
momentum = 0.9
[space]
train.lr = {{ log = [1e-3, 1.0] }}
train.weight_decay = {{ log = [1e-6, 1e-2] }}
"""
CROP_AND_FLIP = "[augment]\ncrop = 4\nflip = true\n"


def peers_python(venv: Path) -> Path:
    """The Python of the peers' own environment, which is made where there is none."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        wanted = str(PEERS / "requirements.txt")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
    return python


def write_images(folder: Path, name: str, images: int | None = None) -> Path:
    """Digits (8x8) or shapes (3x32x32) as arrays, split once for all contenders, and a recipe."""
    size = {"size": images} if images else {}
    data = load_data(parse({"data": {"name": name, **size}}, file="benchmark"), CPU)
    path = folder / f"{name}.npz"
    np.savez(path, allow_pickle=False, **arrays_of(data))
    augment = CROP_AND_FLIP if data.in_shape[0] == 3 else ""
    recipe = RECIPE.format(name=name, path=path, augment=augment)
    (folder / f"{name}.toml").write_text(recipe)
    return path


def arrays_of(data: Data) -> dict[str, NDArray[Any]]:
    """`x_train` and so on; images uint8 `[N, H, W, C]`."""
    arrays = {}
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        assert isinstance(part, ResidentPart)
        arrays[f"x_{name}"] = part.images.pixels.permute(0, 2, 3, 1).numpy()
        arrays[f"y_{name}"] = part.labels.numpy()
    return arrays


def ours(*words: str) -> list[str]:
    """A command of cnntune."""
    return [sys.executable, "-m", "cnntune", *words]
