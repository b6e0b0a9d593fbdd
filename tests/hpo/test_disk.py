"""`hpo run --dry-run` says what a study will take of the disk."""

import re
import shutil
from collections import namedtuple

import pytest
from drive import make_spec

from hpo.disk import RunSize, disk_lines
from hpo.recipe import try_fit
from hpo.run import main
from lightning_seg.training.module import SegmentationModule

RECIPE = """
trainer: {accelerator: cpu, max_epochs: 1}
data: {dataset: phantom_polyp, protocol: phantom-polyp, size: 32}
model: {architecture: unet, options: {widths: [8, 16]}, lr: 0.01%s}
"""
SPACE = "model.options.widths: {categorical: [[8, 16], [16, 32]]}\n"
LINE = re.compile(
    r"disk: ([\d.]+) MiB at most \(10 finished trials(.*) at ([\d.]+) MiB a run, "
    r"2 in training at ([\d.]+) MiB\); (.+) are free in (.+)"
)


def shown(folder, capsys):
    """The lines about the disk of a dry run of ten trials with two workers."""
    (folder / "tiny.yaml").write_text(RECIPE % "")
    (folder / "space.yaml").write_text(SPACE)
    files = ["--recipe", str(folder / "tiny.yaml"), "--space", str(folder / "space.yaml")]
    size = ["--trials", "10", "--workers", "2", "--runs", str(folder / "not" / "there")]
    main([*files, *size, "--dry-run"])
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("disk:")]


def mib(widths):
    """The weights of a network."""
    network = SegmentationModule("unet", options={"widths": widths}, classes=["polyp"])
    return sum(one.numel() * one.element_size() for one in network.state_dict().values()) / 2**20


def test_a_dry_run_counts_the_largest_network_of_the_space(tmp_path, capsys):
    [line] = shown(tmp_path, capsys)
    total, runs, finished, training, _, folder = LINE.fullmatch(line).groups()
    weights = mib([16, 32])
    assert runs == ""
    assert float(finished) == pytest.approx(weights + 1, abs=0.06)
    assert float(training) == pytest.approx(2 * 3 * weights + 1, abs=0.06)
    assert float(total) == pytest.approx(10 * (weights + 1) + 2 * (6 * weights + 1), abs=0.06)
    assert folder == str(tmp_path)


def test_an_average_of_the_weights_is_one_copy_more(tmp_path):
    (tmp_path / "tiny.yaml").write_text(RECIPE % ", ema: 0.9")
    size = RunSize.of(try_fit(["-c", str(tmp_path / "tiny.yaml")]))
    assert size.training == pytest.approx(2**20 * (2 * 4 * mib([8, 16]) + 1), rel=1e-6)


def spec(folder, **changes):
    return make_spec(str(folder), 10, **changes)


def test_trials_of_several_seeds_take_as_much_for_each(tmp_path):
    size, seeds = RunSize(8 * 2**20, 2 * 2**20), {"seed42": [], "seed43": [], "seed44": []}
    [once] = disk_lines(spec(tmp_path), size, 2)
    [several] = disk_lines(spec(tmp_path, replicas=seeds), size, 2)
    assert once.startswith("disk: 36.0 MiB at most (10 finished trials at 2.0 MiB a run, 2 in")
    [fewer] = disk_lines(spec(tmp_path, keep_best=3), size, 2)
    assert fewer.startswith("disk: 29.0 MiB at most (3 finished trials at 2.0 MiB a run, 2 in")
    assert several.startswith("disk: 0.1 GiB at most (10 finished trials of 3 runs each at 2.0")


def test_a_disk_that_is_too_small_is_said(tmp_path, monkeypatch):
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2**20))
    line, cure = disk_lines(spec(tmp_path), RunSize(2**20, 2**20), 1)
    assert "1.0 MiB are free" in line
    assert cure.startswith("disk: NOT ENOUGH; give --runs on a larger disk")
