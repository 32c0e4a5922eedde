"""A pretend accelerator, for a machine without one.

Tensors on `pretend:0` are FakeTensors, which have a shape and no values; those on the CPU are real.
An operation on both raises, as on a real device. What an accelerator would have to wait for is
counted, with the place in cnntune: reads of a value, copies that block, operations whose output's
size depends on values. A value that is read is 1.

Importing this module registers the device in the process: run it in a process of its own.
"""

import collections
import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils import _pytree as pytree
from torch.utils import backend_registration as registration
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

COPIES = ("_to_copy", "copy_", "lift_fresh_copy")
SIZED_BY_VALUES = ("nonzero", "masked_select", "unique_dim", "_unique2")


class _Backend(registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def manual_seed_all(self, seed: int) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        return False

    def synchronize(self, device: Any = None) -> None:
        pass


class _Guard(registration._DummyDeviceGuard):
    def device_count(self) -> int:
        return 1


registration._setup_privateuseone_for_python_backend(
    "pretend", backend_module=_Backend(), device_guard=_Guard()
)
DEVICE = torch.device("pretend:0")
FAKE = FakeTensorMode(allow_non_fake_inputs=True)


def there(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor on the device."""
    with FAKE:
        return torch.zeros(shape, dtype=dtype, device=DEVICE)


class Watched(TorchDispatchMode):
    """Counts what the device would wait for, and where: `found[what][file:line]`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )

    def note(self, what: str) -> None:
        frame: FrameType | None = sys._getframe(2)
        while frame and "/cnntune/" not in frame.f_code.co_filename.replace("tests", ""):
            frame = frame.f_back
        file = frame.f_code.co_filename.rpartition("/cnntune/")[2] if frame else "?"
        self.found[what][f"{file}:{frame.f_lineno if frame else 0}"] += 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        asked = kwargs.get("device")
        sent = asked is not None and torch.device(asked).type == "pretend"
        if not sent and not any(t.device.type == "pretend" for t in tensors):
            return func(*args, **kwargs)
        if name in COPIES:
            copied = self._copied(name, args, kwargs)
            if copied is not None:
                return copied
        elif name == "_local_scalar_dense":
            self.note("read")
            return 1.0 if args[0].is_floating_point() else 1
        elif name in SIZED_BY_VALUES:
            self.note("sized by values")
        return _faked(func, args, kwargs)

    def _copied(self, name: str, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
        """Note a copy between the devices; what one to the CPU returns."""
        source = args[1] if name == "copy_" else args[0]
        to = args[0].device if name == "copy_" else torch.device(kwargs.get("device") or DEVICE)
        if name != "copy_" and kwargs.get("device") is None:
            to = source.device
        if source.device.type == to.type:
            return None
        asynchronous = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if not asynchronous:
            self.note("blocking copy")
        if to.type == "pretend" and source.dtype == torch.float64:
            self.note("float64 on the device")  # mps has none
        if to.type != "cpu":
            return None
        with _disable_current_modes():
            zeros = torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
            return args[0].copy_(zeros) if name == "copy_" else zeros


def _faked(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    def fake(tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, FakeTensor) else FAKE.from_tensor(tensor)

    try:
        with FAKE:
            faked = pytree.tree_map_only(Tensor, fake, (args, kwargs))
            return func(*faked[0], **faked[1])
    except (DynamicOutputShapeException, DataDependentOutputException):
        return _as_of_ones(func, args, kwargs)


def _as_of_ones(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Outputs of the shapes that they have where all values are 1."""

    def real(tensor: Tensor) -> Tensor:
        return torch.ones(tensor.shape, dtype=tensor.dtype)

    with _disable_current_modes():
        real_args, real_kwargs = pytree.tree_map_only(Tensor, real, (args, kwargs))
        real_kwargs.pop("device", None)
        made = func(*real_args, **real_kwargs)
    return pytree.tree_map_only(Tensor, lambda t: there(*t.shape, dtype=t.dtype), made)


_tensor, _to = torch.tensor, nn.Module.to


def _made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
    made = _tensor(data, *args, **kwargs)
    return made if device is None else made.to(device)


def _moved(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    if not (args and isinstance(args[0], torch.device) and args[0].type == "pretend"):
        on_device = any(t.device.type == "pretend" for t in module.state_dict().values())
        return module if on_device else _to(module, *args, **kwargs)
    for each in module.modules():
        for name, weight in list(each._parameters.items()):
            if weight is not None:
                copy = there(*weight.shape, dtype=weight.dtype)
                each._parameters[name] = nn.Parameter(copy, weight.requires_grad)
        for name, values in list(each._buffers.items()):
            if values is not None:
                each._buffers[name] = there(*values.shape, dtype=values.dtype)
    return module


@contextlib.contextmanager
def pretending() -> Iterator[Watched]:
    """Within the block torch sends tensors to `pretend:0` and counts what it would wait for."""
    from cnntune.data import copies

    copies.PINNED.add("pretend")
    torch.tensor = _made
    nn.Module.to = _moved  # type: ignore[method-assign, assignment]
    Tensor.pin_memory = lambda self, *_: self  # type: ignore
    torch.accelerator.synchronize = lambda *_: None
    with Watched() as watched:
        yield watched
