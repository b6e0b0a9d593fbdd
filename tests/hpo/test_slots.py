"""Who runs where: GPUs and cores shared out, and what a worker inherits of its launcher."""

import pytest

from hpo import slots
from hpo.launcher import environment
from lightning_seg.errors import InputError


@pytest.fixture
def gpus(monkeypatch):
    def see(number):
        monkeypatch.setattr(slots, "visible_gpus", lambda: [str(i) for i in range(number)])
        monkeypatch.setattr(slots, "cores", lambda: 16)

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


def test_workers_on_the_cpu_share_its_cores(gpus):
    gpus(0)
    found = slots.slots("4")
    assert [slot.environment for slot in found] == [{"OMP_NUM_THREADS": "4"}] * 4
    assert slots.slots("2", devices=2)[0].environment == {"OMP_NUM_THREADS": "4"}
    assert len(slots.slots("auto")) == 1


def test_places_that_are_not_there_are_refused_in_a_sentence(gpus):
    gpus(2)
    with pytest.raises(
        InputError, match=r"3 workers do not fit on 2 places of GPUs; give --per-gpu 2"
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
