"""The scripts of tests/script/scripts, run under the observer in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1] / "script" / "scripts"
PACKAGE = Path(__file__).parents[2]


def header(path: Path) -> dict[str, str]:
    """`bug`, `old` and `new` of a script with a bug: its rule, and what the fix replaces."""
    lines = path.read_text(encoding="utf-8").splitlines()[:3]
    found = {}
    for line in lines:
        key, _, value = line.removeprefix("# ").partition(":")
        found[key] = value.removeprefix(" ").replace("\\n", "\n")
    return found


def body(path: Path) -> str:
    """The code of a script with a bug, below its header."""
    return path.read_text(encoding="utf-8").split("\n", 3)[3]


def twin(path: Path, folder: Path) -> Path:
    """A copy of a script with a bug, with the bug fixed."""
    told = header(path)
    text = body(path)
    assert told["old"] in text, path
    fixed = folder / path.name
    fixed.write_text(text.replace(told["old"], told["new"], 1), encoding="utf-8")
    return fixed


def sanity(
    *words: str, options: tuple[str, ...] = (), python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`cnntune sanity --json OPTIONS -- WORDS` in a process."""
    return subprocess.run(
        [sys.executable, "-m", "cnntune", "sanity", "--json", *options, "--", *words],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(SCRIPTS)]),
            **environment,
        },
    )


def judged(script: Path, *options: str, python: str = sys.executable) -> dict[str, Any]:
    """The document on a script."""
    run = sanity(python, str(script), options=options)
    assert run.returncode in (0, 1), run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def bad(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Rule and severity of what is `warn` or `fail`."""
    return [
        (finding["rule"], finding["severity"])
        for finding in document["findings"]
        if finding["severity"] in ("warn", "fail")
    ]
