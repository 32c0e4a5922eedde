"""Runs the console blocks of the pages and writes what they print: `python docs/write_console.py`.

All of them take about three minutes on two cores; name pages to rewrite only those.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from console_blocks import blocks, printed_by, rewritten, write_files  # noqa: E402

PAGES = ("README.md", "docs/tour.md")


def write(path: Path) -> None:
    """Run the blocks of a page in a temporary folder, in order, and rewrite the page."""
    page = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        write_files(page, Path(name))
        outputs = []
        for block in blocks(page):
            print(f"{path.name}: {block.command}", flush=True)
            outputs.append(printed_by(block.command, Path(name)))
    path.write_text(rewritten(page, outputs), encoding="utf-8")


if __name__ == "__main__":
    for page in sys.argv[1:] or PAGES:
        write(ROOT / page)
