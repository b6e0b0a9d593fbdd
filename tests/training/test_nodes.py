"""Nodes with disks of their own begin with the same things, or all end with one sentence, soon."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lightning_seg import cli
from lightning_seg.cli.command_line import SaveConfigOnce
from lightning_seg.runs import Run
from lightning_seg.training import processes
from lightning_seg.training.run_place import RunPlace

ROOT = Path(__file__).parent.parent.parent
RECIPE = """
seed_everything: 1
trainer: {accelerator: cpu, precision: 32-true, enable_progress_bar: false, max_epochs: 1}
data: {dataset: folder, root: pictures, protocol: auto, size: 32, batch_size: 4, num_workers: 0}
model: {architecture: unet, encoder: test_resnet, lr: 0.01}
"""
SOON = 300  # seconds; unmended, a node waits for 10 minutes


@pytest.fixture(scope="module")
def node_folders(tmp_path_factory):
    """The disks of two nodes: the same pictures and recipe, and a run of one epoch on both."""
    first = tmp_path_factory.mktemp("nodes") / "0"
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (first / "pictures" / kind).mkdir(parents=True)
    for number in range(24):
        image = rng.integers(0, 255, (32, 32, 3), np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, number % 8 : 24] = 255
        cv2.imwrite(str(first / "pictures" / "images" / f"p{number}.png"), image)
        cv2.imwrite(str(first / "pictures" / "masks" / f"p{number}.png"), mask)
    (first / "small.yaml").write_text(RECIPE)
    before = Path.cwd()
    os.chdir(first)
    try:
        cli.run(["fit", "-c", "small.yaml"])
    finally:
        os.chdir(before)
    return first.parent


@pytest.fixture
def disks(node_folders, tmp_path):
    """Copies of them that a test may change."""
    for rank in "01":
        shutil.copytree(node_folders / "0", tmp_path / rank)
    return tmp_path


def on_both(disks, *args, recipe="small.yaml"):
    """The command on two nodes, each in its own folder: codes, what they printed, seconds."""
    [port] = processes.free_ports(1)
    shared = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "lightning_seg", *args, "--trainer.num_nodes", "2"]
    begin = time.monotonic()
    started = [
        subprocess.Popen(
            command,
            cwd=disks / str(rank),
            env=shared | {"NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        told = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], told, time.monotonic() - begin


def by_torchrun(disks, *args):
    """The command on two nodes of one process, each started by its own torchrun."""
    [port] = processes.free_ports(1)
    shared = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = []
    for rank in ("0", "1"):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
        command += ["--nproc-per-node", "1", "--node-rank", rank, "--master-addr", "127.0.0.1"]
        command += ["--master-port", str(port), "-m", "lightning_seg", *args]
        started.append(
            subprocess.Popen(
                [*command, "--trainer.num_nodes", "2"],
                cwd=disks / rank,
                env=shared,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        told = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], told


def last_line(text):
    return text.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_checkpoint_that_one_node_lacks_ends_both_with_its_sentence(disks):
    shutil.rmtree(disks / "1" / "runs")
    codes, told, seconds = on_both(disks, "fit", "-c", "small.yaml", "--ckpt_path", "last")
    assert codes == [2, 2], told
    assert seconds < SOON
    assert "node 1 (" in last_line(told[0])
    assert "cannot begin" in last_line(told[0])
    assert "last" in last_line(told[0])
    assert last_line(told[1]).startswith("error: ")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_a_process_looks_for_the_settings_of_a_run_without_the_others(first, exists, tmp_path):
    """A process that asked them would be answered by whatever they say next."""
    run = Run(tmp_path, tmp_path.parent, "a")
    written = SimpleNamespace(save=lambda config, file, **_: Path(file).write_text(config))
    if exists:
        run.config_file.write_text("before")
    trainer = SimpleNamespace(
        is_global_zero=first, fast_dev_run=False, callbacks=[RunPlace(run)], strategy=None
    )
    SaveConfigOnce(written, "now").setup(trainer, None, "fit")
    found = run.config_file.read_text() if run.config_file.exists() else ""
    assert found == ("before" if exists else "now" if first else "")


def test_another_checkpoint_on_one_node_is_refused_by_both(disks, monkeypatch):
    monkeypatch.chdir(disks / "1")
    cli.run(["fit", "-c", "small.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    codes, told, seconds = on_both(disks, "test", "-c", "small.yaml", "--ckpt_path", "last")
    assert codes == [2, 2], told
    assert seconds < SOON
    for text in told:
        assert "do not have the same checkpoint: node 0 (" in last_line(text)
        assert "last-epoch=001.ckpt" in last_line(text)
        assert "last-epoch=002.ckpt" in last_line(text)
    assert not list(disks.glob("?/runs/**/summary*")), "nothing may be scored"


@pytest.mark.slow
def test_another_recipe_on_one_node_is_refused_by_both(disks):
    (disks / "1" / "small.yaml").write_text(RECIPE.replace("0.01", "0.02"))
    codes, told, _ = on_both(disks, "fit", "-c", "small.yaml")
    assert codes == [2, 2], told
    for text in told:
        assert "do not have the same options" in last_line(text)


@pytest.mark.slow
def test_an_absent_recipe_on_the_first_node_ends_the_other(disks):
    (disks / "0" / "small.yaml").unlink()
    codes, told, seconds = on_both(disks, "fit", "-c", "small.yaml")
    assert codes == [2, 2], told
    assert seconds < SOON
    assert "node 0 (" in last_line(told[1])
    assert "there is no recipe" in last_line(told[1])


@pytest.mark.slow
def test_another_mask_on_one_node_is_refused_by_both(disks):
    masks = disks / "1" / "pictures" / "masks"
    shutil.copy(masks / "p1.png", masks / "p2.png")
    codes, told, _ = on_both(disks, "fit", "-c", "small.yaml")
    assert 0 not in codes, told
    assert any("do not have the same images of the" in text for text in told), told


@pytest.mark.slow
def test_two_nodes_with_the_same_files_train_and_test(disks):
    codes, told, _ = on_both(disks, "fit", "-c", "small.yaml", "--name", "two")
    assert codes == [0, 0], told
    run = disks / "0" / "runs" / "two"
    assert list(run.rglob("last*.ckpt"))
    assert not (disks / "1" / "runs" / "two").exists(), "node 0 alone writes"
    shutil.copytree(run, disks / "1" / "runs" / "two")
    codes, told, _ = on_both(disks, "test", "--ckpt_path", "runs/two")
    assert codes == [0, 0], told


@pytest.mark.slow
def test_a_run_is_resumed_where_one_node_has_its_checkpoint_alone(disks):
    (config,) = (disks / "1" / "runs").rglob("config.yaml")
    config.unlink()
    more = ["--ckpt_path", "last", "--trainer.max_epochs", "2"]
    codes, told, _ = on_both(disks, "fit", "-c", "small.yaml", *more)
    assert codes == [0, 0], told
    assert list((disks / "0" / "runs").rglob("last-epoch=002*"))
    assert not config.exists(), "node 0 alone writes"


@pytest.mark.slow
def test_two_nodes_of_torchrun_train_or_end_with_the_same_sentence(disks):
    codes, told = by_torchrun(disks, "fit", "-c", "small.yaml", "--name", "two")
    assert codes == [0, 0], told
    assert list((disks / "0" / "runs" / "two").rglob("last*.ckpt"))
    assert not (disks / "1" / "runs" / "two").exists(), "node 0 alone writes"
    (disks / "0" / "small.yaml").unlink()
    codes, told = by_torchrun(disks, "fit", "-c", "small.yaml")
    assert 0 not in codes, told
    first, second = (re.findall("^error: (.*)", text, re.M) for text in told)
    assert first[0].startswith("there is no recipe")
    assert second[0].startswith("node 0 (")
    assert first[0] in second[0]
