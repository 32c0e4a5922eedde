"""From bytes to text, and from text to numbers, without guessing."""

import codecs
import math
import re
from contextlib import suppress

from cnntune.diagnosis.logs.languages import written_in

# What tools write where there is no value: Keras NA, fastai #na#, pandas <NA>, Excel #N/A.
MISSING = frozenset({"", "-", "--", "na", "n/a", "#n/a", "#na#", "<na>", "none", "null", "nil"})

# [0-9], since \d matches the digits of every script.
NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?(?:nan|inf(?:inity)?)"
PERCENTAGE = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
# `1.88D+00` of Fortran and `0.99f0` of Julia, as a search finds them fast in a long text
OTHER_EXPONENT = re.compile(
    r"(?<![\w.])(?P<digits>[0-9]*\.[0-9]*)[dDf](?P<power>[-+]?[0-9]{1,3})(?![\w.])"
)
EXPONENT_SIGNS = ("D+", "D-", "D0", "d+", "d-", "d0", "f0", "f-")
WRAPPED = re.compile(rf"[\w.]*[(\[]+\s*({NUMBER})\s*(?:,[^()]*)?[)\]]+", re.IGNORECASE)
WINDOWS_NAN = re.compile(r"-?(?:1\.#(?:qnan|snan|ind)0*|nan\((?:ind|snan)\))", re.IGNORECASE)
WINDOWS_INF = re.compile(r"(-?)1\.#inf0*", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")

# What Python's logging puts before a message: a time, and optionally a name and a level.
TIME = re.compile(
    r"\[?\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d(?!\d)(?:[.,]\d+)?\]?"
    r"(?:\s*[-:|]\s*(?:[\w.]+\s*[-:|]\s*)?(?:DEBUG|INFO|WARNING|ERROR)\b)?\s*(?:[-:|]\s+)?"
    r"(?:\[(?:DEBUG|INFO|WARNING|ERROR)\]\s*)?"
)

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


OTHER_ENCODINGS = ("gb18030", "cp932", "cp1251", "cp1252")  # Chinese, Japanese, Russian, Western
MAX_SAMPLE = 1_000_000  # characters in which a known word is searched for


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, or as its byte order mark says; each line ends in a newline.

    Other encodings are recognised by the words of `languages` in them.
    UTF-16 without a mark (PowerShell can omit it) is recognised by a zero in every other byte.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, errors="replace")
            break
    else:
        head = data[:64]
        wide = len(head) >= 4 and 0 in head and not any(head[1::2]) and all(head[::2])
        text = data.decode("utf-16-le", errors="replace") if wide else _of_bytes(data)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _of_bytes(data: bytes) -> str:
    """The text of bytes in UTF-8, or in another encoding where only that gives known words."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        for encoding in OTHER_ENCODINGS:
            with suppress(UnicodeDecodeError):
                text = data.decode(encoding)
                if written_in(text[:MAX_SAMPLE]):
                    return text
    return data.decode(errors="replace")


def with_e_exponents(text: str) -> str:
    """The text with `e` before every exponent, where Fortran or Julia wrote `D`, `d` or `f`."""
    if not any(sign in text for sign in EXPONENT_SIGNS):
        return text
    return OTHER_EXPONENT.sub(r"\g<digits>e\g<power>", text)


def without_time(line: str) -> str:
    """A line of a log without the time, the logger's name and the level before its message."""
    if line[:1] in "[0123456789" and (found := TIME.match(line)):
        return line[found.end() :]
    return line


def number(text: str, *, decimal_comma: bool = False) -> float | None:
    """The number in a cell; None where it is empty or holds something else.

    NaN and infinity are numbers. `65%` is 0.65; `tensor(0.7, device='cuda:0')` is 0.7.
    """
    text = text.strip()
    try:
        if "_" not in text and text.isascii():  # float() accepts 1_000, and digits of any script
            return float(text)
    except ValueError:
        pass
    if text.lower() in MISSING or not text.isascii():
        return None
    if text.endswith("%"):
        return percentage(text[:-1].strip().replace(",", "." if decimal_comma else ","))
    if decimal_comma and DECIMAL_COMMA.fullmatch(text):
        return float(text.replace(",", "."))
    if wrapped := WRAPPED.fullmatch(text):
        return float(wrapped[1])
    if WINDOWS_NAN.fullmatch(text):
        return math.nan
    if infinite := WINDOWS_INF.fullmatch(text):
        return -math.inf if infinite[1] else math.inf
    return None


def percentage(text: str) -> float | None:
    """`88.1` as 0.881, and not as the 0.8809999999999999 that a division by 100 gives."""
    return float(f"{text}e-2") if PERCENTAGE.fullmatch(text) else None


def as_number(value: object) -> float | None:
    """A value from a JSON document or a Python list as a number; None where it is not one."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return number(value)
    if hasattr(value, "detach"):  # float() of a tensor with a gradient warns
        value = value.detach()
    try:
        return float(value)  # type: ignore[arg-type]  # numpy scalars, tensors of one element
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
