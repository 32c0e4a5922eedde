"""The images that cnntune and its peers get, and how each of them is called."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnntune.config.recipe import parse
from cnntune.data import Data
from cnntune.data.parts import ResidentPart
from cnntune.training.build import load_data

PEERS = Path(__file__).parent / "peers"
LIBRARIES = ("torch", "optuna", "lightning", "ray", "fastai")
LIST_VERSIONS = """
import json, sys
from importlib.metadata import distributions
found = {d.metadata["Name"]: d.version for d in distributions()}
print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))
"""
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


@dataclass(frozen=True)
class Peers:
    """The peers' own environment: its Python, and the version of each library that it has."""

    python: str
    versions: dict[str, str]

    def script(self, name: str, *words: object) -> list[str]:
        """A command that runs one of the scripts in `peers/`."""
        return [self.python, str(PEERS / name), *map(str, words)]

    def __str__(self) -> str:
        return "peers: " + ", ".join(f"{name} {has}" for name, has in self.versions.items())


def peers(venv: Path) -> Peers:
    """The environment in `venv`, made where there is none; what cannot be installed is missing."""
    python = (venv / "bin" / "python").absolute()
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        wanted = (PEERS / "requirements.txt").read_text().split()
        if not _install(python, wanted):  # then all but those that cannot be had
            for one in wanted:
                _install(python, [one])
    listed = subprocess.run(
        [str(python), "-c", LIST_VERSIONS, *LIBRARIES], check=True, capture_output=True, text=True
    )
    return Peers(str(python), json.loads(listed.stdout))


def _install(python: Path, wanted: list[str]) -> bool:
    words = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    return subprocess.run(words, check=False).returncode == 0


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
