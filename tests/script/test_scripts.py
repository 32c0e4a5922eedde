"""Real scripts in real processes: bugs are named, their fixed twins and sound scripts are not."""

from pathlib import Path

import pytest
from scripts import SCRIPTS, bad, body, header, judged, twin

BUGS = sorted((SCRIPTS / "bugs").glob("*.py"))
SOUND = sorted((SCRIPTS / "sound").glob("*.py"))


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 25
    assert len(SOUND) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("script", BUGS, ids=lambda path: path.stem)
def test_a_bug_is_named_with_its_line(script: Path) -> None:
    document = judged(script)
    rule = header(script)["bug"]
    places = [f["where"] for f in document["findings"] if f["rule"] == rule]
    assert rule in {name for name, _ in bad(document)}
    assert all(place.rpartition(":")[2].isdigit() for place in places), places


def test_each_script_with_a_bug_says_what_of_it_is_fixed() -> None:
    lacking = [path.name for path in BUGS if header(path)["old"] not in body(path)]
    assert lacking == []


@pytest.mark.slow
@pytest.mark.parametrize("script", BUGS, ids=lambda path: path.stem)
def test_the_fixed_twin_of_a_bug_is_silent(script: Path, tmp_path: Path) -> None:
    assert bad(judged(twin(script, tmp_path))) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", SOUND, ids=lambda path: path.stem)
def test_a_sound_script_is_silent(script: Path) -> None:
    assert bad(judged(script)) == []
