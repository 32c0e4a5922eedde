"""How far an accuracy may be off by the choice of its images."""

import math


def image_error(acc: float, images: int) -> float:
    """The binomial standard error of an accuracy (0..1) that was measured on so many images.

    At least one image, also where all are right or all are wrong.
    """
    return math.sqrt(max(acc * (1 - acc), 1 / images) / images)
