"""Python runs this file at its start: `cnntune sanity -- COMMAND` puts its folder on PYTHONPATH.

It loads the observer right after `torch` has been imported, and nothing before. It hides another
`sitecustomize`, which it therefore runs first.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
WATCHED = {  # module: what the observer does once it is imported, where it has such a function
    "torch": "install",
    "torch.utils.tensorboard.writer": "redirect_tensorboard",
    "tensorboardX.writer": "redirect_tensorboard",
    "safetensors.torch": "redirect_safetensors",
    "lightning.fabric.utilities.cloud_io": "redirect_lightning",
    "lightning_fabric.utilities.cloud_io": "redirect_lightning",
    "numpy": "seed_numpy",
    "tqdm.std": "quiet_bars",
}


def run_hidden_sitecustomize() -> None:
    """The `sitecustomize` that Python would have run without ours."""
    path, ours = sys.path[:], sys.modules.pop("sitecustomize", None)
    sys.path[:] = [folder for folder in path if os.path.abspath(folder or ".") != HERE]
    try:
        if importlib.util.find_spec("sitecustomize") is not None:
            importlib.import_module("sitecustomize")
    finally:
        sys.path[:] = path + [folder for folder in sys.path if folder not in path]
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


def observer() -> Any:
    """The observer, or what replaces it: knows nothing of the package that it lies in."""
    name, path = "_cnntune_observer", os.environ["CNNTUNE_OBSERVER"]
    if name not in sys.modules:
        parts = [os.path.dirname(path)] if os.path.basename(path) == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=parts)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls the observer after one of the watched modules was imported."""

    def __init__(self) -> None:
        self.looking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The module's own spec, whose loader goes on to the observer."""
        if name not in WATCHED or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.looking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_observe(module: Any) -> None:
            execute(module)
            try:
                getattr(observer(), WATCHED[name], ignore)(module)
            except Exception as error:
                say(f"cannot observe {name}: {error!r}")

        spec.loader.exec_module = execute_and_observe  # type: ignore[method-assign]
        return spec


def note_crashes() -> None:
    """What ends a script is noted for us, and printed as ever."""
    hook = sys.excepthook

    def note(kind: Any, error: Any, trace: Any) -> None:
        try:
            observer().note_crash(kind, error, trace)
        except Exception as problem:
            say(f"cannot note what was raised: {problem!r}")
        hook(kind, error, trace)

    sys.excepthook = note


def ignore(module: Any) -> None:
    """What is loaded does nothing about this module."""


def say(text: str) -> None:
    """A line on stderr, between those of the script."""
    sys.stderr.write(f"cnntune: {text}\n")


if os.environ.get("CNNTUNE_OBSERVER"):
    try:
        run_hidden_sitecustomize()
    except Exception as error:
        say(f"the hidden sitecustomize raised {error!r}")
    sys.meta_path.insert(0, AfterImport())
    note_crashes()
    try:  # tells a Python that imports no torch from one that never ran this file
        open(os.path.join(os.environ["CNNTUNE_OUT"], f"python-{os.getpid()}"), "w").close()
    except OSError as error:
        say(f"cannot write into its folder: {error}")
