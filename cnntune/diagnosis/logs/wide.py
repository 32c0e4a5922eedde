"""Tables of very many columns, such as one per weight: only those are read that can be curves."""

from collections.abc import Callable

from cnntune.diagnosis.logs.names import MODES, meaning

WIDE = 20_000  # bytes of a header; with fewer all columns are read
EXPORT = "__MIN"  # ends a name in a downloaded chart of W&B, which is recognised by it

Narrow = Callable[[bytes], bytes]


def narrowing(header: bytes, separator: bytes) -> tuple[Narrow, str] | None:
    """How to shorten each line of a table to the columns that matter, and a note on it.

    None where the header is not wide, or none of its columns is a curve. Quoted cells are not
    split, so a header with quotes is left as it is.
    """
    if len(header) < WIDE or b'"' in header:
        return None
    names = [name.strip() for name in header.decode(errors="replace").split(separator.decode())]
    wanted = [at for at, name in enumerate(names) if _matters(name)]
    if not wanted or len(wanted) == len(names):
        return None

    def narrow(line: bytes) -> bytes:
        cells = line.split(separator)
        if len(cells) != len(names):
            return line[:WIDE]  # a line of another width, which the reader of tables reports
        return separator.join([cells[at] for at in wanted])

    return narrow, f"of {len(names)} columns the {len(wanted)} that may be curves were read"


def _matters(name: str) -> bool:
    return meaning(name).kind != "other" or name.lower() in MODES or name.endswith(EXPORT)
