"""CatBoost's `catboost_training.json`: names of metrics in `meta`, values in `iterations`.

Each entry of `iterations` holds, under the name of a set, one value per metric of that set.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cnntune.diagnosis.logs.cells import as_number
from cnntune.diagnosis.logs.names import meaning
from cnntune.diagnosis.logs.record import Record
from cnntune.diagnosis.logs.rows import Row, records

FILE = "catboost_training.json"
TABLES = ("learn_error.tsv", "test_error.tsv")  # hold the same numbers as `FILE`, one per set
TIMES = "time_left.tsv"  # holds no metric
KINDS = {"Min": "loss", "Max": "score"}  # of a metric of no known name, such as MultiClass
SPLITS = {"learn": "train", "test": "test"}


def read(text: str) -> list[Record]:
    """The run of a training file of CatBoost; an empty list for any other text."""
    if '"learn_metrics"' not in text or '"iterations"' not in text:
        return []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(document, Mapping):
        return []
    meta, iterations = document.get("meta"), document.get("iterations")
    if not isinstance(meta, Mapping) or not isinstance(iterations, list):
        return []
    rows = (_row(entry, meta) for entry in iterations if isinstance(entry, Mapping))
    return records("catboost", [row for row in rows if row])


def _row(entry: Mapping[str, Any], meta: Mapping[str, Any]) -> Row:
    row = {} if (count := as_number(entry.get("iteration"))) is None else {"iteration": count}
    for kind, split in SPLITS.items():
        sets, metrics = meta.get(f"{kind}_sets"), meta.get(f"{kind}_metrics")
        for at, name in enumerate(sets if isinstance(sets, list) else ()):
            values = entry.get(name) if isinstance(name, str) else None
            if isinstance(values, list):
                prefix = split if at == 0 else f"{split}_{at}"
                row |= {f"{prefix}/{metric}": v for metric, v in _values(metrics, values)}
    return row


def _values(metrics: Any, values: list[Any]) -> Iterator[tuple[str, float]]:
    entries = [entry for entry in metrics or () if isinstance(entry, Mapping)]
    for entry, value in zip(entries, values, strict=False):
        name, best = entry.get("name"), str(entry.get("best_value"))
        if isinstance(name, str) and (found := as_number(value)) is not None:
            kind = KINDS.get(best, "") if meaning(name).kind == "other" else ""
            yield f"{name} {kind}".rstrip(), found
