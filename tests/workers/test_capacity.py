"""`--workers auto`: as many as there is room for, by arithmetic done here by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call

from cnntune.config.recipe import Recipe, parse
from cnntune.errors import StudyError
from cnntune.machine import cpus, memory
from cnntune.training.device import trial_devices
from cnntune.workers import capacity
from cnntune.workers.capacity import GIB, Found, largest, on_cores, on_gpus, plan
from cnntune.workers.memory_probe import measure, try_out
from cnntune.workers.pool import least_used
from cnntune.workers.processes import call as call_apart

CPU = torch.device("cpu")


def test_workers_on_gpus_are_what_the_memory_holds() -> None:
    # 1.5 GiB and half a GiB of context are 2 GiB; 0.9 of 10 GiB holds 4 of them.
    workers, reason = on_gpus(3 * GIB // 2, (10 * GIB,), 64)
    assert workers == 4
    assert "4 workers: 4 on each of 1 GPU" in reason
    assert "one trial needs up to 2.0 GiB; 10.0 GiB are free" in reason


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
    assert on_cores(2, 1)[1] == "2 workers: 2 CPU cores, 1 per trial"


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
                "data.size": {"choice": [100, 200]},
            }
        )
    )
    assert trial.data.arguments["size"] == 200
    assert trial.train.batch_size == 256
    assert trial.model.arguments["width"] == 32
    assert trial.train.lr == Recipe().train.lr
    assert "norm" not in trial.model.arguments


def test_a_trial_can_be_tried_out() -> None:
    recipe = largest(recipe_of({"train.batch_size": {"choice": [32, 500]}}))  # more than images
    try_out(recipe, CPU)


def found_by(monkeypatch: pytest.MonkeyPatch, found: Found) -> list[Any]:
    """Let another process have found this, on a machine with 3 cores and 10 GiB of main memory."""
    asked: list[Any] = []

    def answer(*question: Any) -> Found:
        asked.append(question)
        return found

    monkeypatch.setattr(capacity, "call", answer)
    monkeypatch.setattr(capacity, "cores", lambda: 3)
    monkeypatch.setattr(memory, "available", lambda: 10 * GIB)
    return asked


def test_on_gpus_the_largest_trial_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = found_by(monkeypatch, Found("bfloat16", 2**20, (10 * GIB,), trial=3 * GIB // 2))
    recipe = recipe_of({"train.batch_size": {"choice": [32, 64]}})
    decided = plan(recipe, ("cuda:0",))
    assert (decided.workers, decided.precision, decided.stream) == (3, "bfloat16", False)
    assert asked == [(f"{measure.__module__}:{measure.__name__}", recipe, ("cuda:0",), True)]


def test_where_nothing_can_be_measured_each_gpu_has_one_worker_and_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found_by(monkeypatch, Found("float32", 0, (GIB, GIB), problem="no room"))
    decided = plan(recipe_of({}), ("cuda:0", "cuda:1"))
    assert decided.workers == 2
    assert decided.reasons[0].endswith("could not be measured: no room")


@pytest.mark.parametrize(
    ("workers", "size", "stream"),
    # 0.4 of 10 GiB are 4 GiB for the images of all workers together.
    [(1, 4 * GIB, False), (2, 2 * GIB, False), (2, 2 * GIB + 1, True), (8, GIB, True)],
)
def test_images_are_streamed_where_the_workers_cannot_all_hold_them(
    monkeypatch: pytest.MonkeyPatch, workers: int, size: int, stream: bool
) -> None:
    found_by(monkeypatch, Found("float32", size))
    decided = plan(recipe_of({}), ("cpu",), asked=workers)
    assert (decided.workers, decided.stream) == (workers, stream)
    assert bool(decided.reasons) == stream


@pytest.mark.parametrize(
    ("workers", "size", "stream"),
    # Two GPUs: 3 workers are up to 2 on one of them, which have a quarter of its 4 GiB.
    [(2, GIB, False), (2, GIB + 1, True), (3, GIB // 2, False), (3, GIB // 2 + 1, True)],
)
def test_workers_of_one_gpu_share_its_memory(
    monkeypatch: pytest.MonkeyPatch, workers: int, size: int, stream: bool
) -> None:
    asked = found_by(monkeypatch, Found("float32", size, (4 * GIB, 8 * GIB)))
    assert plan(recipe_of({}), ("cuda:0", "cuda:1"), asked=workers).stream == stream
    assert asked[0][-1] is False  # nothing is tried out for a number that is given


def test_what_is_known_of_a_study_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = found_by(monkeypatch, Found("bfloat16", 0))
    decided = plan(recipe_of({}, precision="float32"), ("cpu",), image_bytes=5 * GIB)
    assert not asked
    assert (decided.workers, decided.precision, decided.stream) == (3, "float32", True)


def test_a_look_finds_what_the_images_take_and_the_precision() -> None:
    recipe = parse({"data": {"size": 120, "test_fraction": 0.0}}, file="test")
    found = measure(recipe, ("cpu",), False)
    assert found == Found("float32", 120 * 8 * 8)  # bytes of 8x8 pixels, too few for bfloat16
    wider = parse(
        {
            "data": {"size": 120, "test_fraction": 0.0},
            "space": {"data.size": {"choice": [90, 240]}},
        },
        file="test",
    )
    assert measure(wider, ("cpu",), False).image_bytes == 240 * 8 * 8
    pinned = parse({"data": {"size": 120}, "train": {"precision": "bfloat16"}}, file="test")
    assert measure(pinned, ("cpu",), False).precision == "bfloat16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_look_measures_the_memory_of_a_gpu() -> None:
    recipe = recipe_of({"train.batch_size": {"choice": [32]}})
    found = call_apart("cnntune.workers.memory_probe:measure", recipe, ("cuda:0",), True)
    assert 2**20 < found.trial < min(found.free)


def test_workers_go_to_the_gpu_with_the_fewest() -> None:
    gpus = ("cuda:0", "cuda:1", "cuda:2")
    taken: list[str] = []
    for _ in range(4):
        taken.append(least_used(gpus, taken))
    assert taken == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    taken.remove("cuda:1")  # its worker died
    assert least_used(gpus, taken) == "cuda:1"
    assert least_used(("cpu",), ["cpu", "cpu"]) == "cpu"


def test_cuda_means_all_gpus_and_a_number_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert trial_devices(torch.device("cuda")) == ("cuda:0", "cuda:1")
    assert trial_devices(torch.device("cuda:1")) == ("cuda:1",)
    assert trial_devices(CPU) == ("cpu",)


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
    assert cpus.quotas(tmp_path / "cgroup", root) == found


def test_a_system_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert cpus.quotas(tmp_path / "none", tmp_path) == []


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_workers_is_refused(wanted: str) -> None:
    with pytest.raises(StudyError, match="--workers: must be auto or a number >= 1"):
        capacity.parse_workers(wanted)


def test_a_search_says_why_it_has_so_many_workers(tmp_path: Path) -> None:
    words = ("search", "digits", "--budget", "1", "--epochs", "1", "--set", "data.size=120")
    outcome = call(*words, "--set", "model.width=2", cwd=tmp_path)
    assert outcome.code in (0, 1), outcome.err
    assert f"{cpus.cores()} CPU core" in outcome.err
