"""Where in the user's code a tensor was made: module, class, and line of `forward`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LIBRARIES = ("torch", "torchvision", "timm")  # packages whose lines no user can change
OURS = "cnntune"


@dataclass(frozen=True)
class Place:
    """An operation of a forward pass: `max_pool2d` in `stages.1.pool`, a `MaxPool2d`.

    `line` is that of the user's code, such as `model.py:31`; empty if only libraries ran it.
    """

    op: str
    module: str
    kind: str
    line: str

    def __str__(self) -> str:
        inside = f"{self.module} ({self.kind})" if self.module else f"the forward of {self.kind}"
        return f"{self.op} in {inside}" + (f", {self.line}" if self.line else "")


class _Following(TorchFunctionMode):
    """Calls `see` with each tensor of the batch, in the order in which they are made."""

    def __init__(
        self, stack: list[tuple[str, str]], images: int, see: Callable[[Place, Tensor], None]
    ) -> None:
        super().__init__()
        self.stack, self.images, self.see = stack, images, see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run `func`; pass on a result that has a row for each image."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim > 1 and len(result) == self.images:
            op = getattr(func, "__name__", "operation")
            if op != "__get__" and result.is_floating_point():
                with torch._C.DisableTorchFunction():
                    self.see(Place(op, *self.stack[-1], _users_line()), result.detach())
        return result


def _users_line() -> str:
    """The innermost line of the forward pass that belongs to no library; empty if there is none.

    Where the stack reaches our own code, the forward pass began: what called us is not the model.
    """
    frame = sys._getframe(2)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == OURS and frame.f_code.co_name != "__torch_function__":  # another mode
            break
        if package not in (*LIBRARIES, OURS):
            path = frame.f_code.co_filename
            return f"{Path(path).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


@contextmanager
def following(
    model: nn.Module, images: int, see: Callable[[Place, Tensor], None]
) -> Iterator[None]:
    """Within the block, `see` gets each result `[images, ...]` of a forward pass of `model`."""
    stack = [("", type(model).__name__)]
    hooks = []
    for name, module in model.named_modules():
        if name:
            here = (name, type(module).__name__)
            hooks.append(module.register_forward_pre_hook(lambda *_, here=here: stack.append(here)))
            hooks.append(module.register_forward_hook(_leave(stack), always_call=True))
    try:
        with _Following(stack, images, see):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _leave(stack: list[tuple[str, str]]) -> Callable[..., None]:
    def leave(*_: Any) -> None:
        stack.pop()

    return leave
