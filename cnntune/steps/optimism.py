"""How much of the accuracy of the best trial is luck: it was selected by these validation images.

Estimated from the trials alone, without further training. benchmarks/search/winner_error_rates.py
compares the estimate with the truth.
"""

import statistics
from collections.abc import Sequence

import numpy as np

from cnntune.findings import Finding
from cnntune.steps.winner import Candidate
from cnntune.study.noise import image_error
from cnntune.study.trial import Trial

MIN_TRIALS = 10  # fewer do not show how accuracies are spread
COMPETING = 50  # the best trials that may have been selected instead; others are too far below
DRAWS = 2000  # of noise: the estimate repeats to 0.03 standard errors
SCALE = 0.5  # of the added noise, in standard errors: smaller ones need more draws, and larger ones
# spread the accuracies so far that the best would rarely have been another


def expected_optimism(accs: Sequence[float], images: int) -> float:
    """By how much the best of measured accuracies (0..1) exceeds its own expectation.

    Noise of a known size is added to the accuracies again, and the noise of whichever is then the
    best is averaged: selection by noise is measured where noise is known (the little bootstrap of
    Breiman 1992, JASA 87: 738-754). Each run's errors are taken for a sample of their own of
    `images`; trials that err on the same images are luckier by less, so it is an upper estimate.
    """
    best = np.sort(np.asarray(accs, dtype=float))[::-1][:COMPETING]
    errors = np.array([image_error(float(acc), images) for acc in best])
    drawn = np.random.default_rng(0).standard_normal((DRAWS // 2, len(best)))
    noise = np.concatenate([drawn, -drawn]) * SCALE * errors
    selected = np.argmax(best + noise, axis=1)
    added = noise[np.arange(len(noise)), selected].mean()
    return max(0.0, float(added) / SCALE**2)


def optimism_findings(
    trials: Sequence[Trial], candidates: Sequence[Candidate], val_images: int | None
) -> list[Finding]:
    """How far the accuracy that selected the best trial may lie above that on new images.

    Empty for fewer than ten complete trials, for losses, and where the images are not counted.
    """
    accs = [t.val_acc for t in trials if t.status == "complete" and t.summary.val_acc is not None]
    if len(accs) < MIN_TRIALS or not val_images or not candidates:
        return []
    optimism = expected_optimism(accs, val_images)
    text = (
        f"{max(accs):.4f} is the best of {len(accs)} trials on {val_images:,} validation images:"
        f" about {100 * optimism:.2f} points of it are expected to be luck"
    )
    repeated = [one for one in candidates if one.mean is not None]
    if repeated:
        fallen = statistics.fmean(one.selected_acc - (one.mean or 0.0) for one in repeated)
        again = f"the best {len(repeated)} again" if repeated[1:] else "the best again"
        moved = f"{'rose' if fallen < 0 else 'fell'} by {100 * abs(fallen):.2f} points"
        text += f"; trained {again}, accuracy {moved} on the same images"
    return [
        Finding(
            "optimism",
            "info",
            text,
            "report the accuracy on a test set, which `cnntune train` evaluates once; data without"
            " one need images that nothing was chosen by",
            measured=optimism,
        )
    ]
