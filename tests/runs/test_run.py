"""Best, last, names and endings of run folders, by checkpoints made here; no name of a file is believed."""

import json
import shutil

import pytest
import torch

from lightning_seg.errors import InputError
from lightning_seg.runs import Ending, Run, find_checkpoint, find_run
from lightning_seg.runs.run import new_run

FIRST, SECOND = ("a1", 0, 0), ("b2", 1, 20)  # the second sitting begins at step 20


def save(run, name, epoch, *lineage, role="last", value=0.5, best=0.5, per_epoch=10):
    """A checkpoint of ``epoch`` (from 1) as `fit` writes it, but for its weights."""
    content = {
        "epoch": epoch - 1,
        "global_step": epoch * per_epoch,
        "state_dict": {},
        "hyper_parameters": {"architecture": "unet"},
        "run": {
            "role": role,
            "monitor": "val/dice",
            "mode": "max",
            "value": value,
            "best_value": best,
            "best_name": "",
            "lineage": list(lineage or [FIRST]),
        },
    }
    path = run / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "demo" / "version_0"


def test_the_last_epoch_is_the_highest_number_whatever_the_files_are_called(folder):
    save(folder, "last-epoch=999.ckpt", 999)
    newest = save(folder, "last-epoch=1000.ckpt", 1000)
    assert Run.open(folder).last.path == newest
    renamed = newest.rename(newest.with_name("a.ckpt"))
    assert Run.open(folder).last.path == renamed


def test_best_is_the_file_whose_score_the_newest_one_knows_as_the_best(folder):
    other = save(folder, "best-epoch=009-dice=0.9999.ckpt", 1, role="best", value=0.5, best=0.5)
    best = save(folder, "mine.ckpt", 2, role="best", value=0.7, best=0.7)
    last = save(folder, "last.ckpt", 3, value=0.6, best=0.7)
    run = Run.open(folder)
    assert (run.best.path, run.last.path) == (best, last)
    assert [saved.epoch for saved in run.checkpoints] == [1, 2, 3]
    best.unlink()
    assert Run.open(folder).best is None
    with pytest.raises(InputError, match="no 'best' checkpoint"):
        find_checkpoint(folder, "best")
    assert other.exists()


def test_best_and_last_are_of_the_branch_that_was_trained_last(folder):
    """Resumed at epoch 2 with batches twice as large: epochs 3 to 6 of the first sitting are abandoned."""
    start = save(folder, "best-2.ckpt", 2, role="best", value=0.7, best=0.7)
    save(folder, "best-6.ckpt", 6, role="best", value=0.9, best=0.9)
    save(folder, "last-6.ckpt", 6, value=0.9, best=0.9)
    last = save(folder, "last-4.ckpt", 4, FIRST, SECOND, value=0.6, best=0.7, per_epoch=7)
    run = Run.open(folder)
    assert [saved.path for saved in run.living] == [start, last]
    assert (run.best.path, run.last.path) == (start, last)


def test_a_run_of_version_0_1_keeps_its_best_and_last(folder):
    for name, epoch in (("best-epoch=001.ckpt", 1), ("last-epoch=009.ckpt", 9)):
        path = save(folder, name, epoch)
        content = torch.load(path, weights_only=True)
        del content["run"]
        state = {"monitor": "val/dice", "best_model_score": torch.tensor(0.5)}
        state["best_model_path"] = "/elsewhere/checkpoints/best-epoch=001.ckpt"
        torch.save(content | {"callbacks": {"ModelCheckpoint{}": state}}, path)
    run = Run.open(folder)
    assert (run.best.path.name, run.last.path.name) == (
        "best-epoch=001.ckpt",
        "last-epoch=009.ckpt",
    )


def test_a_file_that_cannot_be_read_is_left_aside_and_said(folder):
    good = save(folder, "last.ckpt", 1)
    (folder / "checkpoints" / "torn.ckpt").write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"torn\.ckpt"):
        assert Run.open(folder).last.path == good


def test_a_name_may_have_groups_and_follows_the_folder_when_it_moves(tmp_path):
    folder = tmp_path / "runs" / "group" / "demo" / "version_0"
    save(folder, "last.ckpt", 1)
    (folder / "environment.json").write_text(json.dumps({"name": "group/demo"}))
    run = Run.open(folder)
    assert (run.name, run.root, run.version) == ("group/demo", tmp_path / "runs", "version_0")
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "mine" / "version_3")
    assert (Run.open(copy).name, Run.open(copy).root) == ("mine", tmp_path / "elsewhere")
    bare = shutil.copytree(folder, tmp_path / "bare")
    run = Run.holding(bare / "checkpoints" / "last.ckpt")
    assert (run.folder, run.name, run.version) == (bare, "bare", "")


def test_a_model_is_named_by_file_folder_run_name_best_and_last(folder, tmp_path, monkeypatch):
    best = save(folder, "b.ckpt", 1, role="best", value=0.5)
    last = save(folder, "l.ckpt", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # a folder of that name that is no run
    for text in (best, folder, folder.parent, "runs/demo", "demo", "~/runs/demo"):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert find_checkpoint(text).resolve() == best
    assert find_checkpoint("last", name="demo").resolve() == last
    assert find_checkpoint("demo", "last").resolve() == last
    for text in (best, folder, folder.parent, "runs/demo", "demo", "demo/version_0"):
        assert find_run(text).folder == folder
    with pytest.raises(InputError, match="--name <run> to know of which run"):
        find_checkpoint("best")
    for text in ("demi", "nothing.ckpt"):
        with pytest.raises(InputError, match=f"there is no checkpoint or run '{text}'"):
            find_checkpoint(text)
        with pytest.raises(InputError, match=f"there is no checkpoint or run '{text}'"):
            find_run(text)


def test_versions_are_numbers_and_one_without_a_checkpoint_is_passed_over(folder):
    for number in (2, 10):
        save(folder.with_name(f"version_{number}"), "last.ckpt", 1)
    folder.with_name("version_11").mkdir()
    assert Run.open(folder.parent).version == "version_10"
    assert new_run(folder.parent.parent, "demo").version == "version_12"


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Ending("complete", 20, 20), "complete, 20 epochs"),
        (Ending("complete", None, 3), "complete, 3 epochs"),
        (Ending("complete", 20, 7), "stopped early after 7 of 20 epochs"),
        (Ending("interrupted", 20, 3), "interrupted after 3 of 20 epochs"),
        (Ending("running", 20, 3), "running or killed after 3 of 20 epochs"),
    ],
)
def test_an_ending_in_words(ending, text):
    assert ending.text == text


@pytest.mark.parametrize("name", ["../esc", "a/../../esc", "/abs", ".", "", "x/version_0"])
def test_a_name_that_leaves_the_folder_of_runs_or_is_a_version_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="name is"):
        new_run(tmp_path, name)
