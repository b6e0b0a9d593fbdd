"""The page of `lightning-seg doctor`: its lines, its exit code, and that it ends where devices hang."""

import json
from pathlib import Path

import pytest
import torch

from lightning_seg.__main__ import main as front_door
from lightning_seg.analysis import doctor
from lightning_seg.analysis.all_reduce import measure_all_reduce
from lightning_seg.data import cores
from lightning_seg.errors import InputError
from lightning_seg.runs import gpus


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "measure_all_reduce", lambda *args: 1.0)


def verdicts(**options):
    return {one.name: one.verdict for one in doctor.examine_machine(Path("runs"), **options)}


def test_a_sound_machine_is_a_page_and_exit_code_0(capsys, tmp_path):
    front_door(["doctor", "--output", str(tmp_path / "page.json")])
    page = capsys.readouterr().out
    for words in ("torch", "2 processes of the CPU", "/dev/shm", "world size", "optuna", "0 would"):
        assert words in page
    content = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert {one["verdict"] for one in content["findings"]} <= {"ok", "warn"}


def test_what_would_break_a_run_is_exit_code_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit) as ended:
        front_door(["doctor"])
    assert ended.value.code == 1
    assert "FAIL  LIGHTNING_SEG_WEIGHTS" in capsys.readouterr().out


def test_an_old_driver_is_a_failure(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for module in (gpus, doctor):
        monkeypatch.setattr(module, "gpu_files", lambda: [Path("/dev/nvidia0")])
    assert verdicts()["torch and driver"] == "fail"


def test_a_container_with_few_cores_and_little_shared_memory(monkeypatch, tmp_path):
    monkeypatch.delenv(cores.PART, raising=False)
    monkeypatch.setattr(cores, "_CONTROL", tmp_path)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 64)
    space = doctor.shutil.disk_usage("/")._replace(free=64 * 2**20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: space)
    assert cores.usable_cores() == 64
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores.usable_cores() == 64
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert cores.usable_cores() == 3
    found = {one.name: one for one in doctor._processor()}
    assert found["/dev/shm"].verdict == "fail"
    assert "OMP_NUM_THREADS=3" in found["threads of torch"].cure
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, number in (("-1", 64), ("50000", 1)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        assert cores.usable_cores() == number


def test_devices_that_do_not_answer_are_a_failure_of_gpus_alone(monkeypatch):
    def hang(*args):
        raise InputError("did not end within 60 s")

    monkeypatch.setattr(doctor, "measure_all_reduce", hang)
    assert verdicts()["all-reduce"] == "warn"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    found = {one.name: one for one in doctor._together(60)}
    assert found["all-reduce"].verdict == "fail"


def test_an_examination_that_fails_is_a_line_and_the_page_goes_on(monkeypatch):
    def broken():
        raise RuntimeError("no such call")

    monkeypatch.setattr(doctor, "cpu_model", broken)
    found = verdicts()
    assert found["examination"] == "fail"
    assert "optuna" in found


def test_processes_that_slurm_started_are_told(monkeypatch):
    for key, value in {
        "STEP_ID": 0,
        "NTASKS": 2,
        "STEP_NUM_TASKS": 2,
        "NTASKS_PER_NODE": 2,
    }.items():
        monkeypatch.setenv(f"SLURM_{key}", str(value))
    found = {one.name: one.found for one in doctor._processes()}
    assert found["world size"].startswith("2, started from outside")
    assert "SLURM_NTASKS=2" in found["variables"]


def test_a_sum_that_takes_too_long_is_ended():
    with pytest.raises(InputError, match="did not end within 0 s"):
        measure_all_reduce("cpu", 2, 1, 0.2)


@pytest.mark.slow
def test_two_processes_sum_a_tensor():
    assert measure_all_reduce("cpu", 2, 1, 100) > 0
