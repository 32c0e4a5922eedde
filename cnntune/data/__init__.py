"""Images for training: built-in data sets, folders, arrays and custom code, as batches on a device.

It must not know networks, runs or trials.
"""

from collections.abc import Callable
from importlib import import_module

from cnntune.data.load import as_source, few_images, image_bytes, load
from cnntune.data.parts import Data, Part
from cnntune.data.source import Images, Source

__all__ = [
    "BUILT_IN",
    "Data",
    "Images",
    "Part",
    "Source",
    "as_source",
    "builder",
    "few_images",
    "image_bytes",
    "load",
]

BUILDERS = {
    "digits": "digits:digits",
    "shapes": "shapes:shapes",
    "cifar10": "torchvision_files:cifar10",
    "mnist": "torchvision_files:mnist",
    "fashion-mnist": "torchvision_files:fashion_mnist",
    "folder": "folder:folder",
    "csv": "table:table",
    "npz": "npz:npz",
}
BUILT_IN = tuple(BUILDERS)


def builder(name: str) -> Callable[..., Source]:
    """The built-in builder `name`.

    Raises:
        KeyError: where there is none.
    """
    module, function = BUILDERS[name].split(":")
    found: Callable[..., Source] = getattr(import_module(f"cnntune.data.{module}"), function)
    return found
