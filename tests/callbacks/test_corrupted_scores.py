"""`test --corrupt`: scores of corrupted images lie apart, beside those of the same images as they are."""

import csv
import json

import numpy as np
import pytest

from experiments.runs import results_of
from lightning_seg.cli import main as cli
from lightning_seg.evaluation import ScoreTable, per_image
from lightning_seg.evaluation.robustness import Robustness
from lightning_seg.evaluation.summary import Summary
from lightning_seg.reports.comparison import main as compare
from lightning_seg.reports.run_page import main as report
from lightning_seg.runs import find_run

RECIPE = """
seed_everything: 1
name: tiny
trainer: {accelerator: cpu, enable_progress_bar: false, max_epochs: 3, logger: false}
data: {dataset: phantom_polyp, size: 32, batch_size: 8, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [8, 16]}, lr: 0.02}
"""
TEST = ["test", "--ckpt_path", "best", "--name", "tiny", "--threshold", "val"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "tiny.yaml").write_text(RECIPE)
        cli(["fit", "-c", "tiny.yaml"])
        cli(TEST)
        [clean] = find_run("tiny").score_folders("test")
        before = (clean / "scores.csv").read_bytes()
        cli([*TEST, "--corrupt", "darkness,noise"])
        yield clean, before


@pytest.fixture
def found(runs):
    [file] = find_run("tiny").folder.glob("corrupted-test-*/*/corruptions.json")
    return file.parent, Robustness.read(file)


def test_the_scores_of_the_images_as_they_are_stay(runs):
    clean, before = runs
    assert find_run("tiny").score_folders("test") == [clean]
    assert (clean / "scores.csv").read_bytes() == before
    assert not Summary.read(clean).corruption
    results = list(results_of(find_run("tiny").folder))
    assert [result.file.parent for result in results] == [clean]


def test_each_corruption_has_a_table_of_its_own(runs, found):
    folder, kept = found
    assert kept.kinds == ["darkness", "noise"]
    assert len(kept.rows) == 2 * 5 * 2  # kinds, severities, scores
    images = ScoreTable.read(runs[0] / "scores.csv")
    for row in kept.of("polyp"):
        place = folder / f"{row.kind}-{row.severity}"
        table = ScoreTable.read(place / "scores.csv")
        assert table.ids == images.ids
        ours, clean = (per_image(each.of("polyp"), "dice") for each in (table, images))
        assert row.value == pytest.approx(ours.mean())
        assert row.difference == pytest.approx((ours - clean).mean())
        low, high = row.difference_interval
        assert low <= row.difference <= high
        said = " ".join(Summary.read(place).cautions())
        assert f"CORRUPTED: {row.kind} of severity {row.severity} of 5 (seed 0)" in said
    assert any(abs(row.difference) > 0.01 for row in kept.rows)
    assert kept.clean["polyp"]["dice"][0] == pytest.approx(
        per_image(images.of("polyp"), "dice").mean()
    )


def test_the_ledger_counts_one_more_look(runs, found):
    with open("runs/ledger.csv", newline="") as file:
        looks = list(csv.DictReader(file))
    assert len(looks) == 3  # two tests, and the corruptions together
    assert found[1].looks == 3


def test_another_seed_or_batch(runs, found, capsys):
    first = {(row.kind, row.severity, row.score): row.value for row in found[1].rows}
    tables = {}
    for more in (["--data.batch_size", "7"], ["--corrupt_seed", "5"]):
        cli([*TEST, "--corrupt", "noise", *more])
        kept = Robustness.read(found[0] / "corruptions.json")
        tables[more[0]] = np.array([row.value for row in kept.of("polyp")])
    same = [first["noise", severity, "dice"] for severity in range(1, 6)]
    assert tables["--data.batch_size"] == pytest.approx(same, abs=1e-6)
    assert kept.seed == 5
    assert np.abs(tables["--corrupt_seed"] - same).max() > 0
    shown = capsys.readouterr().out
    assert "under corruptions (seed 5)" in shown
    assert "SYNTHETIC" in shown


def test_compare_and_report_say_what_they_are(runs, found, capsys, tmp_path):
    compare([str(runs[0]), f"dark={found[0] / 'darkness-5'}", "--score", "dice"])
    said = capsys.readouterr().out
    assert "CORRUPTED: darkness of severity 5" in said
    assert "used unlike each other: corruption: none" in said
    report(["tiny", "--output", str(tmp_path / "page.html"), "--no-predictions"])
    page = (tmp_path / "page.html").read_text()
    assert "Corrupted images" in page
    assert "None of these is a score of the images as they are" in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--corrupt", "fog"], "fog"),
        (["--corrupt", "noise", "--trainer.limit_test_batches", "1"], "whole split"),
        (["--corrupt", "noise", "--corrupt_seed", "-1"], "seed of the corruptions is -1"),
    ],
)
def test_bad_words_are_refused_before_anything_is_scored(runs, more, said, capsys):
    with open("runs/ledger.csv") as file:
        before = file.read()
    with pytest.raises(SystemExit) as end:
        cli([*TEST, *more])
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    with open("runs/ledger.csv") as file:
        assert file.read() == before


def test_a_damaged_file_is_said(found, tmp_path):
    from lightning_seg.errors import InputError

    file = tmp_path / "corruptions.json"
    content = json.loads((found[0] / "corruptions.json").read_text())
    del content["rows"][0]["interval"]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="damaged"):
        Robustness.read(file)
