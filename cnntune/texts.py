"""Text for the terminal: counts, durations, and line wrapping that keeps commands whole."""

import re

# What is never broken: a quoted option together with its name, a quoted text, a command.
QUOTED = r"(?<!\w)'[^']*'\S*"  # an apostrophe within a word is not a quotation mark
PIECES = re.compile(rf"--?[\w-]+ {QUOTED}|\S*{QUOTED}|\S*`[^`]*`\S*|\S+")


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """`8 s`, `3 min` or `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters, keeping its line breaks.

    Words and quoted commands are not broken, so that they can be copied: one that is longer than
    `width` gets a longer line.
    """
    lines = []
    for paragraph in text.splitlines() or [""]:
        if len(paragraph) <= width:  # unchanged, with its spaces
            lines.append(paragraph)
            continue
        line = ""
        for piece in PIECES.findall(paragraph):
            if line and len(line) + 1 + len(piece) > width:
                lines.append(line)
                line = piece
            else:
                line = f"{line} {piece}" if line else piece
        lines.append(line)
    return lines


def broken(name: str, width: int) -> str:
    """A path or a name in lines of at most `width` characters that end after `/` or `-`.

    A longer word gets a separate line.
    """
    lines = [""]
    for piece in re.findall(r"[^/-]*[/-]|[^/-]+", name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def unwrapped(text: str) -> str:
    """A docstring with one line per paragraph; indented and list lines are kept."""
    return re.sub(r"(?<=\S)\n(?=[^\s*-])", " ", text)
