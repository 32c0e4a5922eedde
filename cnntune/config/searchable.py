"""What a search may draw: marks that stand in a key's annotation, beside its type and its limits.

Trials can be ranked only where all are measured alike. A key without a mark may be searched.
"""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Fixed:
    """Marks a key that has one value in all trials of a search, with the reason."""

    reason: str


@dataclass(frozen=True)
class Costly:
    """Marks a key whose accuracy costs compute or data, with the explanation."""

    reason: str


Mark = Fixed | Costly
OTHER_IMAGES = Fixed("trials would be measured on different validation images")


def mark_of(annotation: Any) -> Mark | None:
    """The mark in an annotation such as `Annotated[int, Fixed("...")] | None`, if there is one."""
    for metadata in getattr(annotation, "__metadata__", ()):
        if isinstance(metadata, Fixed | Costly):
            return metadata
    marks = (mark_of(inner) for inner in typing.get_args(annotation))
    return next((mark for mark in marks if mark), None)


def takes_whole_numbers(annotation: Any) -> bool:
    """Whether the type takes integers and no fractions, as `int` and `Count | None` do."""
    types_ = set(_plain_types(annotation))
    return int in types_ and float not in types_


def _plain_types(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _plain_types(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for inner in typing.get_args(annotation):
            yield from _plain_types(inner)
    else:
        yield annotation
