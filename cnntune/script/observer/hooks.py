"""The hooks: which functions of torch are watched, and what notes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .data import note_batch, note_pass, note_restored, note_samples
from .losses import (
    LOSSES,
    OTHER_LOSSES,
    note_argmax,
    note_drawn,
    note_dropout,
    note_forward,
    note_log_probability,
    note_loss,
    note_max,
    note_negative,
    note_rounded,
    note_seed,
    note_threshold,
)
from .replacing import HANDLES, after, around, before
from .seen import SEEN
from .steps import (
    note_after_step,
    note_backward,
    note_before_step,
    note_cleared,
    note_clip,
    note_group,
    note_optimizer,
    note_schedule,
)
from .stopping import perhaps_stop

FIRST_BATCHES = 2  # of a pass, whose samples are compared with those of the next one
SHORT_PASS = 4  # batches of a pass over a loader once enough steps were seen
DRAWING = ("rand", "randn", "randint", "randperm", "multinomial", "normal", "bernoulli")


def hook(torch: Any) -> None:
    """All hooks that see what a loop does."""
    hook_modules(torch)
    hook_backward(torch, SEEN, note_backward)
    hook_optimizers(torch)
    hook_functions(torch)
    hook_schedulers(torch)
    hook_scaler(torch)
    hook_loaders(torch)
    before(torch.nn.Module, "load_state_dict", lambda m, state, *a, **k: note_restored(m, state))
    before(torch, "manual_seed", lambda seed, *a: note_seed(seed))
    for name in DRAWING:
        before(torch, name, lambda *a, generator=None, **k: note_drawn(generator))


def hook_modules(torch: Any) -> None:
    """Forward passes that no other module called."""

    def make(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            if SEEN.depth or SEEN.differentiating or not SEEN.ours():
                return original(self, *args, **keywords)
            SEEN.depth, SEEN.root = 1, self
            try:
                output = original(self, *args, **keywords)
            finally:
                SEEN.depth = 0
            note_forward(self, args, keywords, output, torch)
            SEEN.root = None
            perhaps_stop()
            return output

        return call

    around(torch.nn.Module, "__call__", make)
    before(
        torch.nn.Module, "zero_grad", lambda m, *a, **k: note_cleared(list(m.parameters()), None)
    )


def hook_backward(torch: Any, state: Any, note: Any) -> None:
    """Losses that are differentiated, by the method or by the function: `note` gets each.

    `state` tells whether this thread is observed, and is `differentiating` in the meantime.
    """

    def make(original: Any) -> Any:
        def call(tensors: Any, *args: Any, **keywords: Any) -> Any:
            if state.differentiating or not state.ours():
                return original(tensors, *args, **keywords)
            found = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            for tensor in found:
                note(tensor, torch)
            state.differentiating = True
            try:
                return original(found[0] if len(found) == 1 else found, *args, **keywords)
            finally:
                state.differentiating = False

        return call

    around(torch.Tensor, "backward", make)
    around(torch.autograd, "backward", make)


def hook_optimizers(torch: Any) -> None:
    """Optimizers: made, cleared, stepped."""
    kind = sys.modules["torch.optim.optimizer"]  # `torch.optim` deletes the name
    after(kind.Optimizer, "__init__", lambda _, self, *a, **k: note_optimizer(self))
    after(kind.Optimizer, "add_param_group", lambda _, self, *a, **k: note_group(self))
    after(kind.Optimizer, "zero_grad", lambda _, self, *a, **k: note_cleared(None, self))

    def step(optimizer: Any, _args: Any, _keywords: Any) -> None:
        note_after_step(optimizer, torch)
        perhaps_stop()

    HANDLES.append(
        kind.register_optimizer_step_pre_hook(lambda o, a, k: note_before_step(o, torch))
    )
    HANDLES.append(kind.register_optimizer_step_post_hook(step))


def hook_functions(torch: Any) -> None:
    """Functions: losses, dropout, clipping, argmax."""
    functional = torch.nn.functional

    def noting(name: str) -> Callable[..., None]:
        return lambda result, *args, **keywords: note_loss(name, args, keywords, result, torch)

    for name in (*LOSSES, *OTHER_LOSSES):
        after(functional, name, noting(name))
    before(functional, "dropout", note_dropout)
    for owner in (torch, torch.Tensor):
        before(owner, "argmax", note_argmax)
        before(owner, "max", note_max)
    for name in ("gt", "ge", "__gt__", "__ge__"):
        before(torch.Tensor, name, note_threshold)
    before(torch.Tensor, "round", note_rounded)
    for name in ("neg", "__neg__"):
        after(torch.Tensor, name, lambda result, *a, **k: note_negative(result, torch))
    for kind in vars(torch.distributions).values():
        if isinstance(kind, type) and "log_prob" in vars(kind):
            after(kind, "log_prob", lambda r, *a, **k: note_log_probability(r, a, k, torch))
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        around(torch.nn.utils, name, noting_clips)


def noting_clips(original: Any) -> Any:
    """A function that clips the gradients of parameters, which may be a generator."""

    def call(parameters: Any, *args: Any, **keywords: Any) -> Any:
        if SEEN.ours() and not hasattr(parameters, "grad"):
            parameters = list(parameters)
            note_clip(parameters)
        elif SEEN.ours():
            note_clip([parameters])
        return original(parameters, *args, **keywords)

    return call


def hook_schedulers(torch: Any) -> None:
    """Schedulers, whose classes each have their own `step`."""
    kind = torch.optim.lr_scheduler
    base = getattr(kind, "LRScheduler", None) or kind._LRScheduler
    classes = [base, *(c for c in vars(kind).values() if isinstance(c, type))]

    def quietly(original: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            outer, SEEN.scheduling = SEEN.scheduling, True
            try:
                return original(*args, **keywords)
            finally:
                SEEN.scheduling = outer

        return call

    def noting(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            if SEEN.scheduling:
                return original(self, *args, **keywords)
            SEEN.scheduling = True
            try:
                result = original(self, *args, **keywords)
            finally:
                SEEN.scheduling = False
            note_schedule(self)
            return result

        return call

    for cls in dict.fromkeys(classes):
        if "__init__" in vars(cls) and hasattr(cls, "step"):
            around(cls, "__init__", quietly)
        if "step" in vars(cls):
            around(cls, "step", noting)


def hook_scaler(torch: Any) -> None:
    """The scaler of mixed precision."""
    kind = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler

    def scaled(_result: Any, self: Any, *_args: Any, **_keywords: Any) -> None:
        SEEN.scaled = bool(self.is_enabled())

    def unscaled(_result: Any, self: Any, *_args: Any, **_keywords: Any) -> None:
        SEEN.scaled = False

    def stepping(original: Any) -> Any:
        def call(self: Any, *args: Any, **keywords: Any) -> Any:
            SEEN.stepping_scaler = bool(self.is_enabled())
            try:
                return original(self, *args, **keywords)
            finally:
                SEEN.stepping_scaler = SEEN.scaled = False

        return call

    after(kind, "scale", scaled)
    after(kind, "unscale_", unscaled)
    around(kind, "step", stepping)
    after(kind, "update", lambda *a, **k: SEEN.count("scaler updated", ""))


def hook_loaders(torch: Any) -> None:
    """Passes over loaders, which are short once enough steps were seen."""
    data = torch.utils.data.dataloader

    def begin(iterator: Any, loader: Any) -> None:
        iterator._cnntune_pass = note_pass(loader)
        iterator._cnntune_given = 0
        iterator._cnntune_sized = hasattr(loader.dataset, "__len__")
        iterator._cnntune_size = loader.batch_size

    def make(original: Any) -> Any:
        def call(self: Any) -> Any:
            given = getattr(self, "_cnntune_given", 0)
            if SEEN.cut_from is not None and given >= SHORT_PASS and SEEN.ours():
                if getattr(self, "_cnntune_sized", False):
                    SEEN.cuts += 1
                    raise StopIteration
            self._cnntune_given = given + 1
            batch = original(self)
            note_batch(batch, getattr(self, "_cnntune_size", None), torch)
            if given < FIRST_BATCHES and getattr(self, "_cnntune_pass", None):
                note_samples(batch, self._cnntune_pass, torch)
            return batch

        return call

    after(data.DataLoader, "__iter__", begin)
    around(data._BaseDataLoaderIter, "__next__", make)
