"""Words on a line: numbers with their nouns, and lines that break where a reader can paste them."""

import re

# What has to stay in one piece: a quoted option together with its name, a quoted text, a command.
QUOTED = r"(?<!\w)'[^']*'\S*"  # an apostrophe within a word opens no quotation
PIECES = re.compile(rf"--?[\w-]+ {QUOTED}|\S*{QUOTED}|\S*`[^`]*`\S*|\S+")


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters, its own line breaks kept.

    No word and no quoted command is broken: one that is longer has a longer line of its own, so
    that it can be copied.
    """
    lines = []
    for paragraph in text.splitlines() or [""]:
        if len(paragraph) <= width:  # as it is, with the blanks in it
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

    A word that is longer has a line of its own.
    """
    lines = [""]
    for piece in re.findall(r"[^/-]*[/-]|[^/-]+", name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def unwrapped(text: str) -> str:
    """A docstring's text with one line a paragraph; lines that are indented or listed stay."""
    return re.sub(r"(?<=\S)\n(?=[^\s*-])", " ", text)
