"""Lightning, the Trainer of Transformers, and accelerate, where some environment has them."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from scripts import SCRIPTS, bad, sanity

FOLDER = SCRIPTS / "frameworks"
# A Python that has them; ours need not.
PYTHON = os.environ.get("CNNTUNE_FRAMEWORKS_PYTHON", "")


@cache
def has(library: str) -> bool:
    return bool(PYTHON) and not subprocess.run([PYTHON, "-c", f"import {library}"]).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "library", "framework", "found"),
    [
        ("lightning_sound", "lightning", "lightning", []),
        ("lightning_softmax", "lightning", "lightning", [("loss-input", "fail")]),
        ("trainer_sound", "transformers", "transformers", []),
        ("trainer_softmax", "transformers", "transformers", [("loss-input", "fail")]),
        ("accelerate_sound", "accelerate", "accelerate", []),
        ("accelerate_no_eval", "accelerate", "accelerate", [("train-while-validating", "fail")]),
    ],
)
def test_a_framework_is_seen_as_plain_pytorch_is(
    script: str,
    library: str,
    framework: str,
    found: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has(library):
        pytest.skip(f"CNNTUNE_FRAMEWORKS_PYTHON names no Python that has {library}")
    monkeypatch.chdir(tmp_path)
    run = sanity(PYTHON, str(FOLDER / f"{script}.py"))
    document = json.loads(run.stdout)
    assert document["script"]["framework"] == framework
    assert bad(document) == found
