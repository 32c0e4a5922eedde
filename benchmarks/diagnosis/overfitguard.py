"""How well `diagnose` tells overfitting on the histories of OverfitGuard (Li et al., FSE 2024).

    python benchmarks/diagnosis/overfitguard.py FILE.npz

FILE holds two series a history, of one loss an epoch each: "overfit/NAME|train_loss",
"overfit/NAME|val_loss", and "non_overfit/NAME|..." for those that do not overfit. Prints precision,
recall and F1 of "overfitting", and the macro-F1 that the paper reports (0.913 on its 40 real runs).
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cnntune.diagnosis.curve import Curve
from cnntune.diagnosis.rules import diagnose

WANTED = 0.95  # macro-F1 on the 419 simulated histories
Pair = tuple[bool, bool]  # whether a history overfits, and whether we say so


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--errors", action="store_true", help="name the histories told wrong")
    args = parser.parse_args()
    pairs: list[Pair] = []
    labels: Counter[str] = Counter()
    with np.load(args.file) as series:
        for name in sorted({key.split("|")[0] for key in series.files}):
            train, val = (series[f"{name}|{part}"].tolist() for part in ("train_loss", "val_loss"))
            found = diagnose(Curve([float(epoch) for epoch in range(len(val))], train, val))
            pairs.append((name.startswith("overfit/"), found.label == "overfitting"))
            labels[found.label] += 1
            if args.errors and pairs[-1][0] != pairs[-1][1]:
                print(f"{name}: {found.label}, {found.evidence}")
    precision, recall, f1 = scores(pairs)
    other = scores((not truth, not said) for truth, said in pairs)[2]
    print(f"{len(pairs)} histories, said: {dict(labels.most_common())}")
    print(f"overfitting: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")
    print(f"macro-F1 {(f1 + other) / 2:.3f} (wanted: {WANTED})")


def scores(pairs: Iterable[Pair]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the second of each pair, the first being the truth."""
    counts = Counter(pairs)
    hits = counts[True, True]
    said, true = hits + counts[False, True], hits + counts[True, False]
    return hits / max(1, said), hits / max(1, true), 2 * hits / max(1, said + true)


if __name__ == "__main__":
    main()
