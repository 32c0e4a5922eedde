"""Writes docs/models.md from the table of models: `python docs/write_models.py`."""

from pathlib import Path

from cnntune.models.table import page

if __name__ == "__main__":
    Path(__file__).with_name("models.md").write_text(page(), encoding="utf-8")
