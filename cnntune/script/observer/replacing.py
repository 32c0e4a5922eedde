"""How functions of torch are replaced, and put back."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

UNDO: list[tuple[Any, str, Any]] = []  # what was replaced, in its order; None where inherited
HANDLES: list[Any] = []  # of hooks that torch removes


def around(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a function of a module or class by one that calls it."""
    original = getattr(owner, name, None)
    if original is None:
        return
    replaced = make(original)
    functools.update_wrapper(replaced, original)
    UNDO.append((owner, name, vars(owner).get(name)))
    setattr(owner, name, replaced)
    torch: Any = sys.modules.get("torch")
    if (
        torch is not None and owner is torch
    ):  # what is compiled by torch.jit finds its functions by their identity
        table: Any = getattr(torch.jit, "_builtins", None)
        known = table._find_builtin(original) if table is not None else None
        if known is not None:
            table._register_builtin(replaced, known)


def after(owner: Any, name: str, then: Callable[..., None]) -> None:
    """Call `then(result, *args, **keywords)` after a function."""

    def make(original: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            result = original(*args, **keywords)
            then(result, *args, **keywords)
            return result

        return call

    around(owner, name, make)


def before(owner: Any, name: str, first: Callable[..., None]) -> None:
    """Call `first(*args, **keywords)` before a function."""

    def make(original: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            first(*args, **keywords)
            return original(*args, **keywords)

        return call

    around(owner, name, make)
