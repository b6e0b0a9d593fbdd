"""What published figures can be."""

import csv
from pathlib import Path

import numpy as np
import pytest

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, statistic
from lightning_seg.evaluation.audit import (
    PrintedFigure,
    answer,
    audit,
    half_width,
    main,
    read_reported,
)

REPORTED = Path(__file__).parents[2] / "experiments" / "results" / "reported.csv"


def figures(**texts):
    return {name: PrintedFigure.parse(name, text) for name, text in texts.items()}


def verdicts(**texts):
    return {verdict.convention: verdict.possible for verdict in audit(figures(**texts))}


def reported():
    return [(row, answer(audit({name: PrintedFigure.parse(name, text) for name, text in texts.items()})))
            for row, texts in read_reported(REPORTED)]  # fmt: skip


def test_the_rows_of_unet_a_are_pooled():
    found = [said for row, said in reported() if "(UNet-A)" in row["source"]]
    assert len(found) == 5
    assert set(found) == {"pooled"}


@pytest.mark.parametrize(("paper", "rows"), [("PEFNet", 16), ("PAM-UNet", 20)])
def test_no_row_of_pefnet_and_pam_unet_is_pooled(paper, rows):
    found = [said for row, said in reported() if row["source"].startswith(paper)]
    assert len(found) >= rows
    assert all(said.startswith("not pooled") for said in found)


def test_figures_known_to_be_means_over_batches_are_not_means_over_images():
    found = {
        (row["dataset"], row["options"]): said
        for row, said in reported()
        if row["model"] == "dca_unet"
    }
    assert found["kvasir_seg", "skip=dca"] == "not pooled: batch"


def scores_of(convention, seed):
    """Dice and IoU to four digits of simulated images, a sixth of the frame each, with an SD of about .15."""
    generator = np.random.default_rng(seed)
    area = generator.integers(300, 2000, 120)
    tp = (area * np.clip(generator.beta(9, 1.2, 120), 0.05, 1)).astype(int)
    fp = ((area - tp) * generator.uniform(0.5, 1.5, 120)).astype(int)
    counts = np.stack([tp, fp, area - tp, 6900 - area - fp], -1)[:, None]
    table = ScoreTable(tuple(map(str, range(120))), ("x",), counts)
    return {
        score: f"{statistic([table], 'x', score, convention).value:.4f}"
        for score in ("dice", "iou", "precision", "recall")
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("convention", ["image", "pooled", "batch", "two_class"])
def test_the_convention_that_made_the_figures_is_possible(convention, seed):
    texts = scores_of("batch8" if convention == "batch" else convention, seed)
    if convention != "pooled":
        texts = {name: texts[name] for name in ("dice", "iou")}
    found = verdicts(**texts)
    assert found[convention]
    if convention in ("image", "pooled"):
        assert not found["pooled" if convention == "image" else "image"]


def test_percent_rounding_and_cutting_off_are_understood():
    assert PrintedFigure.parse("dice", "94.1").meets(0.9405, 0.9405)
    assert PrintedFigure.parse("dice", ".94 ").meets(0.9499, 0.95)
    assert not PrintedFigure.parse("dice", ".94").meets(0.9501, 0.96)
    assert verdicts(dice="94.11", iou="88.89") == verdicts(dice="0.9411", iou="0.8889")
    assert verdicts(dice=".94", iou=".89")["pooled"]
    assert not verdicts(dice=".9400", iou=".8900")["pooled"]


def test_precision_and_recall_alone_can_refute_pooling():
    assert verdicts(dice=".9411", precision=".9618", recall=".9213")["pooled"]
    assert not verdicts(dice=".9311", precision=".9618", recall=".9213")["pooled"]


def test_figures_of_no_convention_are_said_to_be_of_none():
    assert "no convention fits" in answer(audit(figures(dice=".8201", iou=".8576")))
    assert "no convention fits" in answer(audit(figures(dice=".7289", iou=".4882")))


def test_the_interval_is_that_of_the_number_of_images(capsys):
    assert half_width(53) == pytest.approx(0.040, abs=5e-4)
    assert half_width(100) == pytest.approx(0.029, abs=5e-4)
    main(["--dice", ".9411", "--iou", ".8889", "--n-images", "100"])
    printed = capsys.readouterr().out
    assert "answer: pooled\n" in printed
    assert "+-0.029" in printed


def test_a_whole_table_is_audited(capsys, tmp_path):
    with REPORTED.open() as file:
        rows = list(csv.DictReader(file))
    pairs = sum(row["score"] == "iou" for row in rows)
    assert pairs - 5 <= len(list(read_reported(REPORTED))) <= pairs + 20
    main(["--table", str(REPORTED)])
    assert "not pooled: image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--dice", ".9"], "in pairs"),
        (["--iou", ".9"], "in pairs"),
        (["--dice", "good", "--iou", ".8"], "dice is 'good'"),
        (["--dice", "941", "--iou", ".8"], "dice is '941'"),
        (["--dice", ".9", "--iou", ".8", "--n-images", "1"], "2 or more"),
        (["--table", "nowhere.csv"], "there is no table"),
    ],
)
def test_bad_figures_are_one_sentence(args, words):
    with pytest.raises(InputError, match=words):
        main(args)
