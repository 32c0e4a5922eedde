"""Recipes' `[augment]` sections: each transform alone, and all together."""

from typing import Any

COLOURS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "flips": {"flip": True, "flip_vertical": True},
    "crop": {"crop": 2},
    "resized crop": {"resized_crop": 0.3},
    "affine": {"rotate": 10.0, "translate": 0.1, "zoom": 0.1, "shear": 5.0},
    "colours": COLOURS,
    "cutout": {"cutout": 4},
    "erase": {"erase": 0.5},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "everything": {
        "flip": True,
        "crop": 2,
        "rotate": 10.0,
        "erase": 0.5,
        "mixup": 0.4,
        "cutmix": 1.0,
        **COLOURS,
    },
}
