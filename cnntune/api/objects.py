"""The user's model, loader, loss and optimizer: read and copied, and never changed."""

import copy
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from cnntune.errors import DataError, UserCodeError
from cnntune.seeds import derive_seed
from cnntune.training.contracts import settings_kept

LABEL_KEYS = ("labels", "label", "targets", "target", "y")  # in batches that are dicts
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
BATCH_BYTES = 2**29  # of batches that are kept in memory

_ORIGINAL = {name: value for name, value in vars(F).items() if callable(value)}

Model = nn.Module | Callable[[], nn.Module]


@dataclass(frozen=True)
class Batch:
    """A batch of a loader: what the model is called with, and the targets of the loss."""

    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    targets: Any

    def __len__(self) -> int:
        found = first_tensor((*self.args, *self.keywords.values()))
        return 0 if found is None or not found.dim() else len(found)

    @property
    def images(self) -> bool:
        """Whether it holds images `[N, C, H, W]` alone, with one class number each."""
        inputs, targets = self.args[0] if len(self.args) == 1 else None, self.targets
        return (
            isinstance(inputs, Tensor)
            and inputs.ndim == 4
            and not inputs.is_complex()
            and not self.keywords
            and isinstance(targets, Tensor)
            and targets.shape == inputs.shape[:1]
            and not targets.is_floating_point()
        )

    def to(self, device: torch.device) -> "Batch":
        """A copy on a device."""
        return Batch(
            moved(self.args, device), moved(self.keywords, device), moved(self.targets, device)
        )


@dataclass
class Loss:
    """A user's loss `(outputs, targets) -> scalar`, or the one that the model itself returns."""

    function: Callable[..., Tensor] | None

    def __post_init__(self) -> None:
        self.name = named(self.function)

    def _current(self) -> Callable[..., Tensor] | None:
        """The function; one of torch by its name, since an observer may have replaced it."""
        if self.function is not None and self.function is _ORIGINAL.get(self.name):
            return getattr(F, self.name)  # type: ignore[no-any-return]
        return self.function

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a model on a batch.

        Raises:
            UserCodeError: where it is not a tensor of one number.
        """
        outputs = model(*batch.args, **batch.keywords)
        return self.of(outputs, batch.targets)

    def of(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of what the model returned."""
        function = self._current()
        if function is None:
            value = outputs.get("loss") if isinstance(outputs, Mapping) else None
            value = getattr(outputs, "loss", value)
            must = "loss=None: the model must return an object or a dict with a `loss`"
        else:
            value = function(outputs, targets)
            must = f"loss {self.name}: must return a tensor of one number"
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserCodeError(f"{must} (got {got})")
        return value.reshape(())


def named(thing: Any) -> str:
    """`cross_entropy`, `CrossEntropyLoss`, `Net`."""
    return str(getattr(thing, "__name__", type(thing).__name__))


def first_tensor(values: Sequence[Any]) -> Tensor | None:
    """The first tensor of a few values."""
    return next((value for value in values if isinstance(value, Tensor)), None)


def moved(value: Any, device: torch.device) -> Any:
    """A copy of tensors in tuples, lists and mappings on a device."""
    if isinstance(value, Tensor):
        return value.detach().clone().to(device)
    if isinstance(value, Mapping):
        return {key: moved(entry, device) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(entry, device) for entry in value)
    if isinstance(value, list):
        return [moved(entry, device) for entry in value]
    return value


def split(batch: Any, *, whole: bool = False) -> Batch:
    """What a loader yields, as the arguments of the model and the targets of the loss.

    `(inputs, targets)`; of more entries the last are the targets and the others go to the model;
    of a dict the labels are the targets and the others are keywords. With `whole` a dict goes to
    the model as it is, which then computes the loss itself.

    Raises:
        DataError: where it is anything else.
    """
    if isinstance(batch, Mapping):
        entries = {str(key): batch[key] for key in batch}
        key = next((key for key in LABEL_KEYS if key in entries), None)
        if whole:
            return Batch((), entries, entries.get(key) if key else None)
        if key is None:
            found = ", ".join(entries) or "nothing"
            raise DataError(
                f"loader: a batch that is a dict must hold its targets as one of"
                f" {', '.join(LABEL_KEYS)} (got {found})"
            )
        targets = entries.pop(key)
        return Batch((), entries, targets)
    if isinstance(batch, tuple | list) and len(batch) > 1:
        return Batch(tuple(batch[:-1]), {}, batch[-1])
    got = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else ""
    raise DataError(
        "loader: a batch must be (inputs, targets), or a dict with its labels"
        f" (got {got or type(batch).__name__})"
    )


def check_loader(loader: Any, name: str) -> None:
    """Check that a loader can be read without a trace.

    Raises:
        DataError: where it cannot be iterated, or only once.
    """
    if isinstance(loader, Tensor | str | bytes | Mapping) or not hasattr(loader, "__iter__"):
        raise DataError(
            f"{name}: must be a DataLoader, or another iterable of batches"
            f" (got {type(loader).__name__})"
        )
    if hasattr(loader, "__next__"):
        raise DataError(
            f"{name}: must be a loader, not an iterator: reading it would move its position"
            f" (got {type(loader).__name__})"
        )


def check_model_and_loss(model: Any, loss: Any) -> None:
    """Check that both can be called, as arguments that were exchanged cannot.

    Raises:
        DataError: where one cannot be, or the loss is a class in place of an instance.
    """
    if not callable(model):
        kind = type(model).__name__
        raise DataError(f"model: must be an nn.Module, or a function that makes one (got {kind})")
    if isinstance(loss, type):
        raise DataError(f"loss: must be an instance, {loss.__name__}(), not the class")
    if loss is not None and not callable(loss):
        raise DataError(f"loss: must be a function of (outputs, targets) (got {loss!r:.60})")


def batches(loader: Any, *, seed: int | None = None) -> Iterator[Any]:
    """One pass over a loader, in this process, by samplers of its own.

    A DataLoader is read by a second one over the same data set: its workers, its iterator and its
    generator stay as they are. With `seed` its order is another one.
    """
    yield from _twin(loader, seed) if isinstance(loader, DataLoader) else loader


def _twin(loader: DataLoader[Any], seed: int | None) -> DataLoader[Any]:
    dataset: Any = loader.dataset
    generator = _generator(loader.generator, seed)
    common = {"collate_fn": loader.collate_fn, "generator": generator}
    if isinstance(dataset, IterableDataset):
        held: Any = loader.batch_size
        return DataLoader(dataset, batch_size=held, drop_last=loader.drop_last, **common)  # type: ignore[arg-type]
    known = {id(dataset): dataset}  # the samplers are copied, the images are not
    if loader.generator is not None:
        known[id(loader.generator)] = generator
    if loader.batch_sampler is not None:
        sampler = _copy(loader.batch_sampler, known)
        return DataLoader(dataset, batch_sampler=sampler, **common)  # type: ignore[arg-type]
    return DataLoader(dataset, batch_size=None, sampler=_copy(loader.sampler, known), **common)  # type: ignore[arg-type]


def _generator(own: torch.Generator | None, seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is not None:
        generator.manual_seed(derive_seed(seed, "loader"))
    elif own is not None and own.device.type == "cpu":
        generator.set_state(own.get_state())
    else:
        generator.manual_seed(torch.initial_seed() % 2**63)
    return generator


def _copy(sampler: Any, known: dict[int, Any]) -> Any:
    """A sampler of the same data set whose position and generator are its own."""
    copied: dict[int, Any] = dict(known)
    for held in (sampler, getattr(sampler, "sampler", None)):
        source = getattr(held, "data_source", None)
        if source is not None:
            copied[id(source)] = source
    try:
        return copy.deepcopy(sampler, copied)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError):
        return sampler  # it holds what has no copy, such as an open file


def read(
    loader: Any, name: str, *, samples: int, seconds: float, seed: int | None = None, whole: bool
) -> list[Batch]:
    """The first batches of a pass: so many samples, for so long at most; at least one batch.

    Raises:
        DataError: where there is none, or batches are not what `split` takes.
    """
    found: list[Batch] = []
    until, count, size = time.monotonic() + seconds, 0, 0
    for entry in batches(loader, seed=seed):
        batch = split(entry, whole=whole)
        found.append(batch)
        count += max(1, len(batch))
        size += _bytes((*batch.args, *batch.keywords.values()))
        if count >= samples or size >= BATCH_BYTES or time.monotonic() > until:
            break
    if not found:
        raise DataError(f"{name}: yields no batch")
    return found


def _bytes(values: Sequence[Any]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


def device_of(model: nn.Module) -> torch.device:
    """Where a model computes: the device of its first parameter."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@dataclass
class Source:
    """The user's model, or the function that makes one; each copy of it is another object."""

    model: Model
    hooks: int = 0  # of the user's own, which copies do not have
    made: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.made = self.model if isinstance(self.model, nn.Module) else self._build()

    def _build(self) -> nn.Module:
        assert not isinstance(self.model, nn.Module)
        made = self.model()
        if not isinstance(made, nn.Module):
            raise UserCodeError(
                f"model {named(self.model)}: must return a torch.nn.Module"
                f" (got {type(made).__name__})"
            )
        return made

    @property
    def name(self) -> str:
        """The class of the model."""
        return type(self.made).__name__

    def copy(self, *, fresh: bool = False) -> nn.Module:
        """A copy without gradients; `fresh` draws other weights where a function makes them."""
        if fresh and not isinstance(self.model, nn.Module):
            return self._build()
        return self.copied_with(None)[0]

    def copied_with(self, optimizer: Any) -> tuple[nn.Module, Any]:
        """A copy of the model, and one of its optimizer that holds the copy's parameters.

        Raises:
            UserCodeError: where the model cannot be copied.
        """
        known: dict[int, Any] = {}
        kept = self._hooks_of_users()
        for hooks in kept:
            known[id(hooks)] = type(hooks)()
        self.hooks = sum(map(len, kept))
        try:
            model, other = copy.deepcopy((self.made, optimizer), known)
        except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
            line = (str(error).splitlines() or [""])[0]
            raise UserCodeError(
                f"model {self.name}: cannot be copied: {type(error).__name__}: {line}; pass a"
                " function that makes it: model=lambda: Net()"
            ) from error
        return model, other

    def _hooks_of_users(self) -> list[Any]:
        """Tables of hooks that hold a function of the user's: it may write into the user's lists.

        Torch's own, such as those of weight norm, are part of the network.
        """
        return [
            hooks
            for module in self.made.modules()
            for name in HOOKS
            if (hooks := module.__dict__.get(name))
            and any(not _is_torchs(hook) for hook in hooks.values())
        ]


def _is_torchs(hook: Any) -> bool:
    inner = getattr(hook, "hook", hook)
    module = getattr(inner, "__module__", None) or type(inner).__module__
    return str(module).split(".")[0] == "torch"


@contextmanager
def untouched(*models: nn.Module | None) -> Iterator[None]:
    """Restore afterwards the random numbers of torch, NumPy and Python, and torch's settings.

    `models` name the devices whose generators are restored.
    """
    devices = {device_of(model) for model in models if model is not None}
    cuda = [device for device in devices if device.type == "cuda"]
    mps = torch.mps.get_rng_state() if any(d.type == "mps" for d in devices) else None
    numpy = sys.modules.get("numpy")
    states = random.getstate(), numpy.random.get_state() if numpy is not None else None
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=cuda), settings_kept(), torch.enable_grad():
            yield
    finally:
        random.setstate(states[0])
        if numpy is not None and states[1] is not None:
            numpy.random.set_state(states[1])
        if mps is not None:
            torch.mps.set_rng_state(mps)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
