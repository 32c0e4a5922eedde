"""`--workers auto`: as many as there is room for, by arithmetic done here by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call

from cnntune import capacity, cores
from cnntune.capacity import GIB, fitting_workers, largest, on_cores, on_gpus
from cnntune.device import places
from cnntune.errors import DeviceError, StudyError
from cnntune.lifeline import call as call_apart
from cnntune.probe import probe, try_out
from cnntune.recipe import Recipe, parse
from cnntune.workers import emptiest

CPU = torch.device("cpu")


def test_workers_on_gpus_are_what_the_memory_holds() -> None:
    # 1.5 GiB and half a GiB of context are 2 GiB; 0.9 of 10 GiB holds 4 of them.
    workers, reason = on_gpus(3 * GIB // 2, (10 * GIB,), 64)
    assert workers == 4
    assert "4 workers: 4 on each of 1 GPU" in reason
    assert "up to 2.0 GiB of 10.0 GiB free" in reason


def test_gpus_share_the_workers_evenly_by_the_fullest_of_them() -> None:
    workers, reason = on_gpus(3 * GIB // 2, (70 * GIB, 10 * GIB), 64)
    assert workers == 8
    assert "4 on each of 2 GPUs" in reason


def test_every_worker_on_a_gpu_has_a_core() -> None:
    assert on_gpus(GIB // 2, (100 * GIB,), 6)[0] == 6
    assert on_gpus(GIB // 2, (100 * GIB, 100 * GIB), 6)[0] == 6
    assert on_gpus(GIB // 2, (100 * GIB, 100 * GIB), 1)[0] == 2


def test_a_gpu_without_room_has_a_worker_all_the_same() -> None:
    assert on_gpus(50 * GIB, (GIB,), 8)[0] == 1


def test_cores_are_divided_by_the_threads_of_a_trial() -> None:
    assert on_cores(8, 1)[0] == 8
    assert on_cores(8, 3)[0] == 2
    assert on_cores(2, 4)[0] == 1
    assert on_cores(2, 1)[1] == "2 workers: 2 CPU cores, 1 for each trial"


def recipe_of(space: dict[str, object], **train: object) -> Recipe:
    values = {"data": {"size": 120}, "model": {"width": 2}, "train": train, "space": space}
    return parse(values, file="test")


def test_the_largest_trial_has_the_largest_batch_and_the_widest_network() -> None:
    trial = largest(
        recipe_of(
            {
                "train.batch_size": {"choice": [64, 256, 128]},
                "model.width": {"log": [4, 32]},
                "model.norm": {"choice": ["batch", "none"]},
                "train.lr": {"log": [1e-3, 1.0]},
            }
        )
    )
    assert trial.train.batch_size == 256
    assert trial.model.arguments["width"] == 32
    assert trial.train.lr == Recipe().train.lr
    assert "norm" not in trial.model.arguments


def test_a_trial_can_be_tried_out() -> None:
    recipe = largest(recipe_of({"train.batch_size": {"choice": [32, 500]}}))  # more than images
    try_out(recipe, CPU)


def test_on_gpus_the_largest_trial_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(*question: Any) -> tuple[int, list[int]]:
        asked.append(question)
        return 3 * GIB // 2, [10 * GIB]

    monkeypatch.setattr(capacity, "call", measured)
    monkeypatch.setattr(capacity, "cores", lambda: 3)
    recipe = recipe_of({"train.batch_size": {"choice": [32, 64]}})
    assert fitting_workers(recipe, ("cuda:0",))[0] == 3
    (function, largest_trial, places) = asked[0]
    assert function == f"{probe.__module__}:{probe.__name__}"
    assert largest_trial.train.batch_size == 64
    assert places == ("cuda:0",)


def test_where_nothing_can_be_measured_each_gpu_has_one_worker_and_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise DeviceError(["no room", "and more"])

    monkeypatch.setattr(capacity, "call", full)
    workers, reason = fitting_workers(recipe_of({}), ("cuda:0", "cuda:1"))
    assert workers == 2
    assert reason.endswith("could not be tried out: no room")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_probe_measures_the_memory_of_a_gpu() -> None:
    recipe = recipe_of({"train.batch_size": {"choice": [32]}})
    trial, free = call_apart("cnntune.probe:probe", largest(recipe), ("cuda:0",))
    assert 2**20 < trial < min(free)


def test_workers_go_to_the_gpu_with_the_fewest() -> None:
    gpus = ("cuda:0", "cuda:1", "cuda:2")
    taken: list[str] = []
    for _ in range(4):
        taken.append(emptiest(gpus, taken))
    assert taken == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    taken.remove("cuda:1")  # its worker died
    assert emptiest(gpus, taken) == "cuda:1"
    assert emptiest(("cpu",), ["cpu", "cpu"]) == "cpu"


def test_cuda_means_all_gpus_and_a_number_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert places(torch.device("cuda")) == ("cuda:0", "cuda:1")
    assert places(torch.device("cuda:1")) == ("cuda:1",)
    assert places(CPU) == ("cpu",)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"": "max 100000"}, []),
        ({"a/b": "250000 100000"}, [2]),  # two cores and a half
        ({"a/b": "50000 100000"}, [1]),  # half a core is one worker
        ({"a/b": "max 100000", "a": "400000 100000", "": "800000 100000"}, [4, 8]),
        ({}, []),
    ],
)
def test_control_groups_limit_the_cores(
    tmp_path: Path, limits: dict[str, str], found: list[int]
) -> None:
    (tmp_path / "cgroup").write_text("1:cpu:/other\n0::/a/b\n")
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    for group, text in limits.items():
        (root / group / "cpu.max").write_text(f"{text}\n")
    assert cores.quotas(tmp_path / "cgroup", root) == found


def test_a_system_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert cores.quotas(tmp_path / "none", tmp_path) == []


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_workers_is_refused(wanted: str) -> None:
    with pytest.raises(StudyError, match="--workers: must be auto or a number >= 1"):
        capacity.parse_workers(wanted)


def test_a_search_says_why_it_has_so_many_workers(tmp_path: Path) -> None:
    words = ("search", "digits", "--budget", "1", "--epochs", "1", "--set", "data.size=120")
    outcome = call(*words, "--set", "model.width=2", cwd=tmp_path)
    assert outcome.code in (0, 1), outcome.err
    assert f"{cores.cores()} CPU core" in outcome.err
