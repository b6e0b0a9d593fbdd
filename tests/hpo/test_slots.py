"""Who runs where: GPUs and cores shared out, and what a worker inherits of its launcher."""

import pytest

from hpo import slots
from hpo.launcher import environment
from lightning_seg.data.datamodule import default_workers
from lightning_seg.errors import InputError


@pytest.fixture
def gpus(monkeypatch):
    def see(number):
        monkeypatch.setattr(slots, "visible_gpus", lambda: [str(i) for i in range(number)])
        monkeypatch.setenv("LIGHTNING_SEG_CORES", "16")

    return see


def devices(*args, **kwargs):
    return [slot.environment.get("CUDA_VISIBLE_DEVICES") for slot in slots.slots(*args, **kwargs)]


def test_there_is_one_worker_for_each_gpu_by_default(gpus):
    gpus(8)
    assert devices("auto") == [str(i) for i in range(8)]
    assert devices("3") == ["0", "1", "2"]


def test_several_trials_share_a_gpu_and_several_gpus_a_trial(gpus):
    gpus(4)
    assert sorted(devices("auto", per_gpu=2)) == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert devices("auto", devices=2) == ["0,1", "2,3"]


@pytest.mark.parametrize("number", [0, 8])
def test_trials_share_the_cores_among_threads_and_loading_processes(gpus, number):
    gpus(number)
    found = [slot.environment for slot in slots.slots("4")]
    assert [one["OMP_NUM_THREADS"] for one in found] == ["4"] * 4
    assert [one["LIGHTNING_SEG_CORES"] for one in found] == ["4"] * 4
    two = slots.slots("2", devices=2)[0].environment
    assert (two["OMP_NUM_THREADS"], two["LIGHTNING_SEG_CORES"]) == ("4", "8")
    assert len(slots.slots("auto")) == max(1, number)


def test_loading_processes_are_those_of_the_part(monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEG_CORES", "4")
    assert default_workers() == 3
    monkeypatch.setenv("LIGHTNING_SEG_CORES", "1")
    assert default_workers() == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert default_workers() == 1


def test_trials_of_several_processes_meet_on_ports_of_their_own(gpus):
    gpus(0)
    ports = [slot.environment["MASTER_PORT"] for slot in slots.slots("8", devices=2)]
    assert len(set(ports)) == 8
    assert "MASTER_PORT" not in slots.slots("8")[0].environment


def test_gpus_that_torch_cannot_use_are_no_study_on_the_cpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("lightning_seg.runs.gpus.gpu_files", lambda: ["/dev/nvidia0"])
    with pytest.raises(InputError, match="cannot use them"):
        slots.slots("auto")


def test_places_that_are_not_there_are_refused_in_a_sentence(gpus):
    gpus(2)
    with pytest.raises(
        InputError, match=r"3 workers cannot be placed on 2 places of GPUs; give --per-gpu 2"
    ):
        slots.slots("3")
    with pytest.raises(InputError, match="a trial is to use 4 GPUs, but 2 can be seen"):
        slots.slots("auto", devices=4)
    with pytest.raises(InputError, match="--workers is '0'"):
        slots.slots("0")


def test_the_gpus_that_a_launcher_may_use_keep_their_names(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert slots.visible_gpus() == ["5", "7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert slots.visible_gpus() == ["0", "1"]


def test_a_trial_is_no_task_of_the_slurm_job_that_its_launcher_is_one_of(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LIGHTNING_SEG_DATA", "/data")
    found = environment(slots.WorkerSlot(0, {"CUDA_VISIBLE_DEVICES": "1"}))
    assert not {"SLURM_PROCID", "WORLD_SIZE"} & set(found)
    assert (found["LIGHTNING_SEG_DATA"], found["CUDA_VISIBLE_DEVICES"]) == ("/data", "1")
