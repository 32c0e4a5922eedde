"""torchvision, or one line with the reason why it cannot be used."""

import importlib
from importlib import metadata
from types import ModuleType

from cnntune.errors import DeviceError


def import_torchvision() -> ModuleType:
    """The torchvision module, 1.5 s at the first call.

    Raises:
        DeviceError: where it is missing, or built for another torch. The latter shows as
            "operator torchvision::nms does not exist", which names neither package.
    """
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeviceError(
            f"torchvision {_version('torchvision')} cannot be used with torch {_version('torch')}"
            f" ({reason}): install both from the same place into a fresh virtual environment"
        ) from error


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"
