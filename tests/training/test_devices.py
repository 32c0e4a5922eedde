"""Devices that no test machine has: what is sent to them, and what comes back from them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset

from cnntune.config.recipe import AugmentSection
from cnntune.data.augment import augment
from cnntune.data.parts import NAMELESS, Normalise
from cnntune.data.stream import StreamedPart
from cnntune.models.pretrained.weights import save_weights
from cnntune.steps.sanity.thumbnails import Pictures
from cnntune.training.device import seeded
from cnntune.workers.fork_map import spread

CPU = torch.device("cpu")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="no safe fork elsewhere")


class Far(Tensor):
    """A tensor on a device that can do nothing but be copied to the CPU."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            with torch._C.DisableTorchFunctionSubclass():
                return args[0].as_subclass(Tensor).clone()
        raise AssertionError(f"{func} on the far device")


def far(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Far)


def test_weights_are_written_for_the_cpu(tmp_path: Path) -> None:
    class OnGpu(nn.Module):
        def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
            return {"weight": far(torch.tensor([1.0, 2.0])), "steps": far(torch.tensor(3))}

    numbers = torch.zeros(3)
    save_weights(OnGpu(), numbers, numbers, ("a", "b"), tmp_path / "best.pt")
    weights = torch.load(tmp_path / "best.pt", weights_only=True)["weights"]
    assert weights["weight"].tolist() == [1.0, 2.0]
    assert weights["weight"].device == CPU
    assert int(weights["steps"]) == 3


class FarPart:
    """Four pictures on the far device, the first two of them equal."""

    labels = torch.tensor([0, 0, 1, 2])
    names = NAMELESS
    image_size = (32, 32)
    waited_seconds = 0.0

    def __len__(self) -> int:
        return 4

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        drawn = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        drawn[1] = drawn[0]
        for indices in order.split(batch_size):
            yield far(drawn[indices]), far(self.labels[indices])


def test_pictures_are_compared_on_the_cpu() -> None:
    pictures = Pictures.of(FarPart(), seed=0)
    assert pictures.small.shape == (4, 3, 12, 12)
    assert sorted(pictures.labels.tolist()) == [0, 0, 1, 2]
    assert len(pictures.digests.unique()) == 3


class Sent(TorchDispatchMode):
    """Notes the types of what is copied to the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        device = (kwargs or {}).get("device")
        if func.overloadpacket is torch.ops.aten._to_copy and str(device) == "meta":
            self.types.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing_sends_no_float64_to_the_device(mixup: float, cutmix: float) -> None:
    images, labels = torch.rand(6, 1, 8, 8, device="meta"), torch.zeros(6, device="meta").long()
    with Sent() as sent:
        settings = AugmentSection(mixup=mixup, cutmix=cutmix)
        augment(images, labels, settings, PLAIN, torch.Generator().manual_seed(0))
    assert torch.float32 in sent.types
    assert torch.float64 not in sent.types


def test_the_generator_of_mps_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"seed": torch.tensor([7])}
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state["seed"].clone())
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new: state.update(seed=new))
    with seeded(1, device=torch.device("mps")):
        state["seed"] = torch.tensor([99])  # as torch.manual_seed does there
    assert int(state["seed"]) == 7


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("mps", False), ("cuda", True)])
def test_copies_run_by_themselves_from_pinned_memory_alone(device: str, pinned: bool) -> None:
    part = StreamedPart([], torch.zeros(0), PLAIN, torch.device(device), (2, 2))  # type: ignore[arg-type]
    assert part._pinned == pinned


PLAIN = Normalise(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))


@ON_LINUX
def test_images_are_read_in_forks_whatever_python_would_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unsendable(Dataset[Any]):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.full((1, 2, 2), float(index)), index

    _warn_as_python_3_12_does(monkeypatch)
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)  # Python 3.14's choice
    try:
        part = StreamedPart(Unsendable(), torch.arange(3), PLAIN, CPU, (2, 2))
        labels = [batch_labels.tolist() for _, batch_labels in part.batches(torch.arange(3), 2)]
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert labels == [[0, 1], [2]]


def _warn_as_python_3_12_does(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork

    def warning_fork() -> int:
        child = fork()
        if child:
            text = f"This process (pid={os.getpid()}) is multi-threaded, use of fork() may lead to"
            warnings.warn(f"{text} deadlocks in the child.", DeprecationWarning, stacklevel=2)
        return child

    monkeypatch.setattr(os, "fork", warning_fork)


# `eval` is a function of one value that every process knows.
PARENT = "__import__('os').getppid()"


@ON_LINUX
def test_values_are_spread_over_forks_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    _warn_as_python_3_12_does(monkeypatch)
    with spread(eval, processes=2) as over:
        assert list(over(["1 + 1", PARENT])) == [2, os.getpid()]


@ON_LINUX
def test_forks_that_their_pool_ends_do_not_run_our_handler_of_signals() -> None:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with spread(eval, processes=2) as over:
            (handler,) = over(["__import__('signal').getsignal(15).name"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handler == "SIG_DFL"


@ON_LINUX
def test_where_torch_sees_an_accelerator_no_process_is_a_fork_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    with spread(eval, processes=2) as over:
        two, parent, threads = over(["1 + 1", PARENT, "__import__('torch').get_num_threads()"])
    assert (two, threads) == (2, 1)
    assert parent != os.getpid()


BESIDE_AN_ACCELERATOR = """
import functools, torch
from torch.utils import backend_registration as registration

class Guard(registration._DummyDeviceGuard):
    def device_count(self):
        return 1

def gradient(weight, value):
    loss = (weight * value).sum()
    return torch.autograd.grad(loss, weight)[0].tolist()

if __name__ == "__main__":
    registration._setup_privateuseone_for_python_backend("pretend", device_guard=Guard())
    from cnntune.workers.fork_map import spread

    weight = torch.ones(2, requires_grad=True)
    print(gradient(weight, 1.0))  # a backward pass starts the threads of the devices
    with spread(functools.partial(gradient, weight), processes=2) as over:
        print(list(over([2.0, 3.0])))
"""


@ON_LINUX
@pytest.mark.slow
def test_gradients_are_computed_in_other_processes_beside_an_accelerator(tmp_path: Path) -> None:
    script = tmp_path / "beside.py"
    script.write_text(BESIDE_AN_ACCELERATOR)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[:2] == ["[1.0, 1.0]", "[[2.0, 2.0], [3.0, 3.0]]"], done.stderr
