"""Several devices: synchronized batch norm, who starts the processes, and what is refused."""

import copy
import os
import pty
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments import reproduce
from lightning_seg import cli
from lightning_seg.analysis.profiling import profiled_device
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.inference.workers import find_devices
from lightning_seg.models import create
from lightning_seg.runs import gpus
from lightning_seg.training import devices, processes
from lightning_seg.training.devices import SyncedBatchNorm, check_layer_sync, device_options
from lightning_seg.training.processes import JointStrategy, joint_strategy
from lightning_seg.training.termination import Termination
from lightning_seg.training.trainer import RunTrainer

ROOT = Path(__file__).parent.parent.parent
TINY = """
seed_everything: 1
trainer: {accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 1, max_epochs: 1, precision: 32-true}
data: {dataset: phantom_polyp, protocol: %s, size: 64, batch_size: 4, dataset_options: {resolution: 64}}
model: {architecture: unet, encoder: mobilenetv2_035, lr: 0.01}
"""
# fused norms with activation, in several families of timm
FUSED = ("mobilenetv2_035", "efficientnet_b0", "mobilenetv3_small_050", "mnasnet_small")
PLAIN = ("resnet18", "test_convnext", "hrnet_w18_small")


LAUNCHED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def untouched_environment(monkeypatch):
    """Without what Lightning left of a run on several processes, before and after."""
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    yield
    for name in LAUNCHED:
        os.environ.pop(name, None)


def recipe_encoders():
    contents = [yaml.safe_load(file.read_text()) for file in ROOT.glob("experiments/*.yaml")]
    return {content["model"].get("encoder") for content in contents if "model" in content} - {None}


@pytest.fixture
def recipe(tmp_path):
    rows = [f"polyp-{i:04d},{'train' if i < 8 else 'val' if i < 15 else 'test'}" for i in range(20)]
    head = "# name: tiny\n# version: 1\n# rule: the first 20\nid,split\n"
    (tmp_path / "tiny.csv").write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "tiny.yaml").write_text(TINY % (tmp_path / "tiny.csv"))
    return tmp_path / "tiny.yaml"


def settled(encoder):
    """A network whose norms have statistics of their own, so that each of them matters."""
    torch.manual_seed(0)
    net = create("unet", encoder=encoder, in_channels=3, num_classes=1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


@pytest.mark.parametrize("encoder", sorted({*FUSED, *PLAIN} | recipe_encoders()))
def test_synchronized_norms_leave_the_logits_as_they_are(encoder):
    net = settled(encoder)
    kinds = {name: type(module) for name, module in net.named_modules()}
    state = copy.deepcopy(net.state_dict())
    image = torch.randn(1, 3, 64, 64)
    plugin = SyncedBatchNorm()
    with torch.inference_mode():
        before = net(image)
        synced = plugin.apply(net)
        during = synced(image)
        norms = [m for m in synced.modules() if isinstance(m, nn.BatchNorm2d)]
        restored = plugin.revert(synced)
        after = restored(image)
    assert not norms  # all were synchronized, if there were any
    torch.testing.assert_close(during, before, rtol=0, atol=0)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert {name: type(module) for name, module in restored.named_modules()} == kinds
    assert restored.state_dict().keys() == state.keys()


def test_what_was_learned_while_synchronized_stays_when_reverted():
    net, plugin = settled("mobilenetv2_035"), SyncedBatchNorm()
    synced = plugin.apply(net).train()
    image = torch.randn(2, 3, 64, 64)
    synced(image).sum().backward()
    torch.optim.SGD(synced.parameters(), 0.1).step()
    synced.double().float()  # as a move to a device, which puts new buffers in place
    synced.train()(image)
    learned = copy.deepcopy(synced.state_dict())
    restored = plugin.revert(synced)
    assert all(module.training for module in restored.modules())
    torch.testing.assert_close(restored.state_dict(), learned)


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


def test_a_norm_that_computes_in_its_own_way_is_refused():
    with pytest.raises(InputError, match="0 is a OwnNorm"):
        SyncedBatchNorm().apply(nn.Sequential(OwnNorm(3)))


def test_lightnings_own_plugin_is_refused():
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", sync_batchnorm=True, logger=False
    )
    with pytest.raises(InputError, match="SyncedBatchNorm"):
        check_layer_sync(trainer.strategy)


def trainer(**options):
    known = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "sync_batchnorm": False}
    return SimpleNamespace(**known | {"plugins": None, "strategy": "auto"} | options)


def kinds(**options):
    return [type(plugin).__name__ for plugin in device_options(trainer(**options))["plugins"]]


def test_a_plugin_of_the_user_leaves_ours_of_other_kinds_in_place():
    from lightning.pytorch.plugins import MixedPrecision

    given = MixedPrecision("bf16-mixed", "cpu")
    found = kinds(plugins=given, sync_batchnorm=True)
    ours = ["AtomicCheckpointIO", "LightningEnvironment", "SyncedBatchNorm"]
    assert found == ["MixedPrecision", *ours]


def test_synchronized_norms_of_several_processes_are_refused_on_the_cpu():
    with pytest.raises(InputError, match="on GPUs only"):
        device_options(trainer(devices=2, sync_batchnorm=True))


def test_the_score_in_fit_is_that_of_validate_under_sync_batchnorm(recipe, tmp_path, monkeypatch):
    # torch synchronizes on GPUs only; the one process here has nothing to wait for
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", _BatchNorm.forward)
    monkeypatch.setattr(DDPStrategy, "configure_ddp", lambda strategy: None)
    where = ["--runs", str(tmp_path), "--trainer.devices", "1"]
    synced = ["--trainer.strategy", "ddp", "--trainer.sync_batchnorm", "true"]
    try:
        fit = cli.run(["fit", "-c", str(recipe), *where, *synced])
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    best = fit.trainer.checkpoint_callback.best_model_path
    assert any("act" in name for name, _ in fit.model.net.named_modules())
    validated = cli.run(["validate", "--ckpt_path", best, *where])
    inside, alone = (run.trainer.callback_metrics for run in (fit, validated))
    assert float(alone["val/loss"]) == pytest.approx(float(inside["val/loss"]), rel=1e-4)
    assert float(alone["val/dice"]) == pytest.approx(float(inside["val/dice"]), abs=1e-4)


BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
TWO = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
PTY = {"SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "41000"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "LightningEnvironment"),
        (BATCH, "LightningEnvironment"),
        (BATCH | {"SLURM_NTASKS": "2"}, "LightningEnvironment"),  # a script without srun
        (STEP, "LightningEnvironment"),
        (STEP | TWO | {"SLURM_JOB_NAME": "bash"}, "SLURMEnvironment"),  # srun bash script
        (STEP | TWO | {"SLURM_JOB_NAME": "interactive"}, "SLURMEnvironment"),  # salloc srun
        (STEP | TWO, "SLURMEnvironment"),
        (STEP | TWO | TORCHRUN, "TorchElasticEnvironment"),
        (STEP | TORCHRUN, "TorchElasticEnvironment"),
    ],
)
def test_who_starts_the_processes(variables, expected, monkeypatch):
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert expected in kinds(devices=2)


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [(True, "LightningEnvironment"), (False, "SLURMEnvironment")],  # a shell; a step from there
)
def test_a_session_in_a_terminal_starts_its_own_processes(terminal, expected, monkeypatch):
    for key, value in (STEP | TWO | PTY).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(devices, "_has_terminal", lambda: terminal)
    assert expected in kinds(devices=2)


@pytest.mark.parametrize(("start", "has"), [(pty.fork, True), (os.fork, False)])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_knows_whether_it_has_a_terminal(start, has):
    started = start()
    child = started[0] if isinstance(started, tuple) else started
    if child == 0:
        if start is os.fork:
            os.setsid()
        os._exit(int(devices._has_terminal()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == has


@pytest.mark.parametrize(
    ("variables", "options", "words"),
    [
        (STEP | TWO, {"devices": 1}, "2 processes were started .* makes 1"),
        (STEP | TWO, {"devices": "auto"}, "makes 1"),
        (STEP | TWO, {"devices": [0, 1, 2]}, "makes 3"),
        (STEP | TWO, {"devices": 2, "num_nodes": 2}, "makes 4"),
        (TORCHRUN, {"devices": 1}, "makes 1"),
        (STEP, {"devices": 1, "num_nodes": 2}, "one process was started"),
        ({}, {"devices": 1, "num_nodes": 2}, "one process was started"),
        ({}, {"devices": 10**6}, "1000000, as many processes on the CPU; give at most"),
        ({}, {"devices": "5000", "accelerator": "auto"}, "5000, as many processes on the CPU"),
        (STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}, {}, "--ntasks-per-node"),
    ],
)
def test_processes_that_do_not_fit_the_devices_are_refused(variables, options, words, monkeypatch):
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=words):
        device_options(trainer(**options))


def test_ddp_waits_for_minutes_only_and_other_strategies_are_left_alone():
    for given, number in (("auto", 2), ("ddp", 1), ("ddp_find_unused_parameters_true", 2)):
        strategy = joint_strategy(given, number)
        assert isinstance(strategy, JointStrategy)
        assert strategy._timeout.total_seconds() < 1000
    assert joint_strategy("ddp_find_unused_parameters_true", 2)._ddp_kwargs == {
        "find_unused_parameters": True
    }
    for given in ("auto", "fsdp", "ddp_spawn"):
        assert joint_strategy(given, 1) == given
    own = DDPStrategy()
    assert joint_strategy(own, 2) is own


def eight_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)


def test_one_device_is_taken_unless_more_are_named(recipe, tmp_path, monkeypatch, capsys):
    taken = {}

    def stop(self):
        taken["devices"] = self.trainer.num_devices
        raise InputError("seen")

    monkeypatch.setattr(cli.CLI, "before_fit", stop)
    with pytest.raises(InputError, match="seen"):
        cli.run(["fit", "-c", str(recipe), "--runs", str(tmp_path), "--trainer.accelerator", "cpu"])
    assert taken == {"devices": 1}
    eight_gpus(monkeypatch)
    assert devices.count_devices("auto", "auto") == 8
    assert devices.count_devices("gpu", "0,3") == devices.count_devices("gpu", [0, 3]) == 2
    assert devices.count_devices("gpu", -1) == 8
    assert "1 of 8 GPUs" in devices.spare_devices(1)
    assert devices.spare_devices(8) == ""


def old_driver(monkeypatch, files=1):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpus, "gpu_files", lambda: [Path("/dev/nvidia0")] * files)
    monkeypatch.setattr(gpus, "driver_version", lambda: "450.51")


def test_gpus_that_torch_cannot_use_are_no_silent_cpu(monkeypatch):
    old_driver(monkeypatch)
    with pytest.raises(InputError, match=r"driver 450\.51.*torch .*CUDA"):
        device_options(trainer(accelerator="auto"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    device_options(trainer(accelerator="auto"))


@pytest.mark.parametrize(
    "find",
    [
        lambda: find_devices("auto"),
        lambda: profiled_device(None),
        lambda: reproduce.measure_rate(seconds=0),
    ],
)
def test_predictions_and_profiles_do_not_fall_back_to_the_cpu_either(monkeypatch, find):
    old_driver(monkeypatch)
    with pytest.raises(InputError, match=r"driver 450\.51"):
        find()
    assert find_devices("cpu")[0] == profiled_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    find()


def test_no_loader_workers_by_hand_beside_a_gpu_are_warned_of(monkeypatch):
    options = {"size": 32, "batch_size": 4, "dataset_options": {"resolution": 64}}
    on_cpu = SegmentationDataModule("phantom_polyp", num_workers=0, **options)
    on_cpu.setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        on_cpu.train_dataloader()
    monkeypatch.setattr(SegmentationDataModule, "_on_gpu", lambda self: True)
    with pytest.warns(UserWarning, match=r"data\.num_workers is 0: the GPU waits"):
        on_cpu.train_dataloader()


def test_the_cpu_may_be_asked_for_beside_gpus_that_torch_cannot_use(monkeypatch):
    old_driver(monkeypatch)
    device_options(trainer(accelerator="cpu"))
    old_driver(monkeypatch, files=0)
    device_options(trainer(accelerator="auto"))


FAILING = """
import os, time
import torch
from torch import nn
from lightning_seg.errors import InputError

class Failing(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.conv, self.steps = nn.Conv2d(in_channels, num_classes, 1), 0

    def forward(self, x):
        self.steps += self.training
        if self.steps > 1 and os.environ.get("LOCAL_RANK", "0") in os.environ["FAILS"].split():
            raise %s
        return self.conv(x)
"""
ERRORS = {
    "input": 'InputError("image 17 cannot be read; restore it.")',
    "memory": 'torch.cuda.OutOfMemoryError("CUDA out of memory")',
    "signal": "os.kill(os.getpid(), 9)",
    "disk": "OSError(28, 'No space left on device', '/cache/image_17')",
}


@pytest.mark.parametrize(
    ("failing", "error", "sentence"),
    [
        ("1", "input", "image 17 cannot be read; restore it."),
        ("0", "memory", "the GPU has not enough memory"),
        pytest.param("1", "signal", "ended by SIGKILL", marks=pytest.mark.slow),
        pytest.param(
            "0 1", "input", "image 17 cannot be read; restore it.", marks=pytest.mark.slow
        ),
        pytest.param("0 1", "memory", "the GPU has not enough memory", marks=pytest.mark.slow),
        pytest.param(
            "1", "disk", "No space left on device ('/cache/image_17')", marks=pytest.mark.slow
        ),
        pytest.param(
            "0 1", "disk", "No space left on device ('/cache/image_17')", marks=pytest.mark.slow
        ),
    ],
)
def test_all_processes_end_with_the_first_failure(failing, error, sentence, recipe, tmp_path):
    (tmp_path / "failing_net.py").write_text(FAILING % ERRORS[error])
    mark = str(tmp_path)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "FAILS": failing}
    command = [sys.executable, "-m", "lightning_seg", "fit", "-c", str(recipe), "--runs", mark]
    command += ["--model.architecture", "failing_net:Failing", "--model.options", "{}"]
    command += ["--model.encoder", "null", "--trust_code"]
    command += ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode in (1, 2), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert sentence in errors[0]
    assert "Traceback" not in done.stderr
    assert not left_behind(mark)


@pytest.mark.slow
def test_a_port_that_is_taken_is_a_sentence(recipe, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert processes.usable_port(port) != port
        env = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "lightning_seg", "fit", "-c", str(recipe)]
        command += ["--runs", str(tmp_path), "--trainer.devices", "2"]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert processes.usable_port(port) == port
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert f"port {port}, on which the processes of this run meet, is taken" in errors[0]
    assert "Traceback" not in done.stderr
    assert not left_behind(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (RuntimeError("Connection closed by peer"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (ValueError("an odd value in the validation"), False),
        (InputError("image 17 cannot be read; restore it."), False),
    ],
)
def test_who_may_have_failed_by_another_process_waits_for_its_sentence(error, waits, monkeypatch):
    slept = []
    monkeypatch.setattr(processes.time, "sleep", slept.append)
    monkeypatch.setenv(processes._PARENT, "1")
    outside = SimpleNamespace(validate_settings=lambda **_: None, creates_processes_externally=True)

    def fail():
        raise error

    with pytest.raises(type(error)):
        processes._JointLauncher(outside, 2, 1).launch(fail)
    assert bool(slept) == waits


def test_one_of_several_processes_tells_why_they_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    assert processes.may_tell()
    word = tmp_path / "word"
    word.touch()
    monkeypatch.setenv(processes._WORD, str(word))
    assert [processes.may_tell() for _ in range(3)] == [True, False, False]


def left_behind(mark, seconds=20.0):
    """Command lines of processes that still name ``mark`` after some seconds."""
    end = time.monotonic() + seconds
    while True:
        lines = [_command(process) for process in Path("/proc").glob("[0-9]*")]
        found = [line for line in lines if mark in line]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def _command(process):
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.parametrize(("processes", "looks"), [(1, 17), (2, 3)])
def test_several_processes_agree_more_rarely_than_after_each_batch(processes, looks):
    asked = []
    strategy = SimpleNamespace(reduce_boolean_decision=lambda flag, all: asked.append(flag))
    own = SimpleNamespace(world_size=processes, strategy=strategy, asked_to_end=False)
    for index in range(17):
        Termination().on_train_batch_end(own, None, None, None, index)
    assert len(asked) == looks
    loop = RunTrainer(accelerator="cpu", logger=False, max_steps=3).fit_loop.epoch_loop
    assert (loop._broadcast_sigterm_tensor(), loop.max_steps) == (None, 3)
