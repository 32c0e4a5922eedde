"""Where recipes come from: files, shipped names and `--set`, as nested values not yet validated."""

import json
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnntune.config.problems import did_you_mean
from cnntune.errors import RecipeError
from cnntune.runs.files import check_format, read_json

OWN = "cnntune.toml"  # the recipe of the folder where a command runs
MAX_RECIPE_BYTES = 256_000  # a hand-written recipe has about 1 kB
MAX_DEPTH = 10  # of tables in tables; a recipe needs 4 (`space.train.lr.log`)


def parse_override(text: str) -> tuple[str, Any]:
    """`train.lr=0.01` as a key and a TOML value; a bare word is a string.

    Raises:
        RecipeError: where there is no `=`, or the value is not TOML.
    """
    key, equals, written = text.partition("=")
    key, written = key.strip(), written.strip()
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", key):
        raise RecipeError(f"--set: must be KEY=VALUE, such as train.lr=0.01 (got {text!r})")
    try:
        values = tomllib.loads(f"value = {written}")
        if list(values) != ["value"]:  # further lines would set further keys
            raise ValueError
        return key, values["value"]
    except (ValueError, RecursionError):
        if re.fullmatch(r"[A-Za-z./~][\w.:/~-]*", written):
            return key, written
        raise RecipeError(
            f"--set: {key}: must be a TOML value, such as 0.01, true, 'text' or [1, 2]"
            f" (got {written!r})"
        ) from None


def _depth(values: Any) -> int:
    depth, level = 0, [values]
    while level:
        level = [v for t in level for v in (t.values() if isinstance(t, dict) else t)]
        level = [v for v in level if isinstance(v, dict | list)]
        depth += 1
    return depth


def shipped() -> dict[str, Path]:
    """The recipes that come with cnntune, by name."""
    package = Path(__file__).parents[1]
    installed, checkout = package / "recipes", package.parent / "recipes"
    folder = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


@dataclass(frozen=True)
class RecipeFile:
    """A recipe on disk: the file, and its name in messages, which is RECIPE as it was typed."""

    path: Path
    name: str

    @property
    def code(self) -> Path:
        """The folder of the recipe's user code: its own, or the one its study has recorded.

        Raises:
            StudyError: where the study's `study.json` is damaged.
        """
        folder = self.path.resolve().parent
        about = read_json(folder.parent / "study.json") if self.path.suffix == ".json" else None
        return Path((about or {}).get("code", folder))


def find(source: str | None) -> RecipeFile:
    """The file that RECIPE means: a path, a shipped name, or (left out) `./cnntune.toml` or digits.

    Raises:
        RecipeError: where it is none of these.
    """
    path = _path(source)
    return RecipeFile(path, str(source or path))


def _path(source: str | None) -> Path:
    if source is None:
        own = Path(OWN)
        return own if own.is_file() else shipped()["digits"]
    path = Path(source)
    if path.suffix in (".toml", ".json"):
        if path.is_file():
            return path
        raise RecipeError(f"{source}: no such file")
    if source in shipped():
        return shipped()[source]
    with suppress(OSError):  # a name too long for a file
        if (path / "config.json").is_file():
            return path / "config.json"
    names = list(shipped())
    raise RecipeError(
        f"{source}: no recipe of that name{did_you_mean(source, names)};"
        f" allowed: a .toml or config.json file, or one of {', '.join(names)}"
    )


def read_values(path: Path) -> dict[str, Any]:
    """The nested values of a `.toml` recipe or of a run's `config.json`, not yet validated.

    Raises:
        RecipeError: where the file cannot be read or is not TOML or JSON.
        StudyError: where it is the `config.json` of a newer cnntune.
    """
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise RecipeError(f"{path}: larger than {MAX_RECIPE_BYTES:,} bytes; is it a recipe?")
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not UTF-8 text") from None
    except RecursionError:
        raise RecipeError(f"{path}: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError and JSONDecodeError are both ValueErrors
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise RecipeError(f"{path}: is not {kind}: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: must hold a table of keys (got {type(values).__name__})")
    if _depth(values) > MAX_DEPTH:
        raise RecipeError(f"{path}: nested too deeply")
    if path.suffix == ".json":
        check_format(values, path)
    if path.suffix == ".toml":
        values.setdefault("name", path.stem)
    return values
