"""The probability that a claim is false, against the paired test and against the recorded tables it assumes to be usual."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, per_image
from lightning_seg.evaluation.audit import main as audit
from lightning_seg.evaluation.claims import CORRELATIONS, SPREADS, Claim

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import claims_page

TABLES = claims_page.ROOT / "experiments" / "results" / "scores"


def test_with_the_true_spread_and_correlation_it_is_the_p_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    first = np.clip(0.85 + 0.1 * rng.standard_normal(80), 0, 1)
    second = np.clip(first - 0.01 + 0.05 * rng.standard_normal(80), 0, 1)
    deviations = first.std(ddof=1), second.std(ddof=1)
    claim = Claim.of_means(first.mean(), second.mean(), 80, deviations)
    found = claim.probability_false(float(np.corrcoef(first, second)[0, 1]))
    assert found == pytest.approx(ttest_rel(first, second, alternative="greater").pvalue)


def test_the_assumptions_are_what_the_recorded_tables_show():
    spreads, correlations = [], []
    # lesions alone: Dice of vessels hardly varies
    for folder in TABLES.glob("[kc]*-network"):
        dice = []
        for file in sorted(folder.glob("*.csv")):
            dice.append(per_image(ScoreTable.read(file).counts[:, 0], "dice"))
            mean = dice[-1].mean()
            spreads.append(dice[-1].std(ddof=1) / np.sqrt(mean * (1 - mean)))
        correlations += [np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(dice, 2)]
    assert np.percentile(spreads, [10, 50, 90]) == pytest.approx(SPREADS, abs=0.015)
    assert np.percentile(correlations, [10, 50, 90]) == pytest.approx(CORRELATIONS, abs=0.03)


def test_the_needed_images_are_the_fewest_that_support_the_claim():
    claim = Claim.of_means(0.85, 0.84, 100)
    needed = claim.needed_images(0.84)
    enough, fewer = (Claim.of_means(0.85, 0.84, n) for n in (needed, needed - 1))
    assert enough.probability_false(0.84) <= 0.05 < fewer.probability_false(0.84)
    assert Claim.of_means(0.84, 0.85, 100).needed_images(0.84) is None


def test_the_command_says_the_answer_and_what_it_assumes(capsys):
    audit(["--dice", ".8480", "--versus", ".8357", "--n_images", "100"])
    said = capsys.readouterr().out
    assert "0.8480 is better than 0.8357" in said
    assert "NOT supported" in said
    assert "one seed" in said
    audit(["--dice", ".8480", "--versus", ".8357", "--n_images", "2000", "--correlation", ".8"])
    assert "NOT" not in capsys.readouterr().out
    with pytest.raises(InputError, match="needs --dice"):
        audit(["--versus", ".8", "--n_images", "100"])
    with pytest.raises(InputError, match="--iou would have no part"):
        audit(["--dice", ".9", "--iou", ".8", "--versus", ".8", "--n_images", "100"])


def test_no_claim_is_called_certain(capsys):
    audit(["--dice", ".9411", "--versus", ".80", "--n_images", "100"])
    said = capsys.readouterr().out
    assert "false with probability below 0.001, supported" in said
    assert "0.000," not in said
    audit(["--dice", ".5", "--versus", ".99", "--n_images", "1000"])
    said = capsys.readouterr().out
    assert "false with probability above 0.999, NOT supported" in said
    assert "1.000," not in said


def test_the_page_of_published_claims_is_current():
    text = claims_page.PAGE.read_text(encoding="utf-8")
    assert text == claims_page.page(), "run python tools/claims_page.py"
