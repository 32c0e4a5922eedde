"""How much memory there is: read from files as the kernel writes them."""

from pathlib import Path

import pytest

from cnntune.machine import memory

MEMINFO = """\
MemTotal:       16000000 kB
MemFree:         1000000 kB
MemAvailable:    9000000 kB
Cached:          8500000 kB
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine whose free memory is taken by files that were read; its process is in group a/b."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "groups").write_text("4:memory:/a/b\n3:cpu,cpuacct:/other\n0::/a/b\n")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    """Files such as `memory_max` for memory.max."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("memory_", "memory.")).write_text(f"{text}\n")


def available(machine: Path) -> int:
    return memory.available(machine / "meminfo", machine / "groups", machine / "root")


def test_what_read_files_take_is_available_though_it_is_not_free(machine: Path) -> None:
    assert available(machine) == 9_000_000 * 1024


def test_a_control_group_leaves_what_its_limit_exceeds_its_use_by(machine: Path) -> None:
    write(machine / "root/a/b", memory_max="4000", memory_current="1500")
    assert available(machine) == 2500


def test_files_that_a_group_has_read_do_not_count_as_its_use(machine: Path) -> None:
    stat = "anon 900\ninactive_file 500\nactive_file 100"
    write(machine / "root/a/b", memory_max="4000", memory_current="1500", memory_stat=stat)
    assert available(machine) == 3000


def test_the_narrowest_of_the_groups_above_counts(machine: Path) -> None:
    write(machine / "root/a/b", memory_max="max", memory_current="100")
    write(machine / "root/a", memory_max="2000", memory_current="300")
    write(machine / "root", memory_max="9000", memory_current="400")
    assert available(machine) == 1700


def test_a_container_sees_its_own_group_as_the_root(machine: Path) -> None:
    write(machine / "root", memory_max="2000", memory_current="300")
    assert available(machine) == 1700


def test_groups_of_the_first_version_count_too(machine: Path) -> None:
    write(
        machine / "root/memory/a/b",
        memory_limit_in_bytes="4000",
        memory_usage_in_bytes="1500",
        memory_stat="inactive_file 1\ntotal_inactive_file 200",
    )
    unlimited = str(2**63 - 4096)
    write(machine / "root/memory", memory_limit_in_bytes=unlimited, memory_usage_in_bytes="5")
    assert available(machine) == 2700


def test_a_group_beyond_its_limit_leaves_nothing(machine: Path) -> None:
    write(machine / "root/a/b", memory_max="1000", memory_current="1500")
    assert available(machine) == 0


def test_a_system_without_these_files_has_all_its_memory(tmp_path: Path) -> None:
    assert memory.available(tmp_path / "no", tmp_path / "no", tmp_path) > 2**20


def test_images_fit_that_all_processes_can_hold_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)  # 400 of it for images
    assert memory.fit(400, 1)
    assert memory.fit(100, 4)
    assert not memory.fit(101, 4)
    assert memory.fit(100, 1, free_on_gpu=400)  # a quarter of the GPU's
    assert not memory.fit(101, 1, free_on_gpu=400)
    assert not memory.fit(101, 4, free_on_gpu=10**6)  # they pass through main memory
