"""A run's curves as TensorBoard event files, beside its `metrics.csv`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnntune.errors import DeviceError
from cnntune.runs.run import Epoch, Run

TAGS = {
    "loss/train": "train_loss",
    "loss/val": "val_loss",
    "acc/train": "train_acc",
    "acc/val": "val_acc",
    "lr": "lr",
    "grad_norm": "grad_norm",
}


def check_tensorboard() -> None:
    """Check that event files can be written, before anything is trained.

    Raises:
        DeviceError: where the tensorboard package is missing.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401  # seconds, and only event files need it
    except ImportError:
        raise DeviceError(
            "--tensorboard: needs the tensorboard package: pip install 'cnntune[tensorboard]'"
        ) from None


@contextmanager
def event_file(run: Run) -> Iterator[Callable[[Epoch], None]]:
    """What writes a row into an event file of the run's folder; the step is the epoch.

    A resumed run yields its earlier rows again, so its earlier files are removed.
    """
    from torch.utils.tensorboard import SummaryWriter

    for earlier in run.path.glob("events.out.tfevents.*"):
        earlier.unlink()
    with SummaryWriter(str(run.path)) as writer:

        def write(row: Epoch) -> None:
            for tag, column in TAGS.items():
                writer.add_scalar(tag, getattr(row, column), row.epoch)
            writer.flush()

        yield write
