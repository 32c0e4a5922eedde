"""Where a script's files go."""

from __future__ import annotations

import os
import tempfile
import zlib
from typing import Any

from .replacing import around
from .seen import SEEN


def redirected(path: Any, *, write: bool) -> Any:
    """A file of ours in place of the script's, unless it is to be read and is not there."""
    if SEEN.full or not isinstance(path, (str, os.PathLike)):
        return path
    name = f"saved-{zlib.crc32(os.path.abspath(os.fspath(path)).encode()):08x}"
    ours = os.path.join(SEEN.folder, name)
    if write:
        SEEN.count("saved", str(path))
        return ours
    earlier = os.path.join(SEEN.folder_before, name)
    return next((found for found in (ours, earlier) if os.path.exists(found)), path)


def redirect_saves(torch: Any) -> None:
    """Checkpoints go to a folder that is removed afterwards, and are read from there."""

    def saving(original: Any) -> Any:
        def call(thing: Any, f: Any, *args: Any, **keywords: Any) -> Any:
            return original(thing, redirected(f, write=True), *args, **keywords)

        return call

    def loading(original: Any) -> Any:
        def call(f: Any, *args: Any, **keywords: Any) -> Any:
            return original(redirected(f, write=False), *args, **keywords)

        return call

    around(torch, "save", saving)
    around(torch, "load", loading)


def redirect_safetensors(module: Any) -> None:
    """As `redirect_saves`, for the files of Hugging Face."""

    def saving(original: Any) -> Any:
        def call(tensors: Any, filename: Any, *args: Any, **keywords: Any) -> Any:
            return original(tensors, redirected(filename, write=True), *args, **keywords)

        return call

    around(module, "save_file", saving)


def redirect_lightning(module: Any) -> None:
    """Lightning writes its checkpoints by itself: none is written."""
    if not SEEN.full:
        around(module, "_atomic_save", lambda original: lambda *a, **k: None)


def redirect_tensorboard(module: Any) -> None:
    """Event files go to a folder that is removed afterwards."""

    def make(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            keywords["log_dir"] = tempfile.mkdtemp(prefix="events-", dir=SEEN.folder)
            return original(self, *args[1:], **keywords)

        return call

    if not SEEN.full:
        around(module.SummaryWriter, "__init__", make)
