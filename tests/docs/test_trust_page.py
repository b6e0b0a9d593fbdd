"""The pages that `tools/trust_page.py` makes say what their tables say, and its looks are counted."""

import csv
import sys
from pathlib import Path

import pytest

from lightning_seg.cli import main as cli
from lightning_seg.runs import find_checkpoint

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import trust_corruptions  # noqa: E402
import trust_page  # noqa: E402
import trust_tables  # noqa: E402

RECIPE = """
name: tiny
trainer: {accelerator: cpu, enable_progress_bar: false, max_epochs: 1, logger: false}
data: {dataset: phantom_polyp, size: 32, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8]}}
"""


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("trust.md", trust_page.trust_page),
        ("negative-results.md", trust_page.negative_page),
        ("robustness.md", trust_page.robustness_page),
    ],
)
def test_pages_follow_from_their_tables(name, page):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == page(), (
        "python tools/trust_page.py pages"
    )


def test_the_ledger_counts_its_looks_and_its_tables_keep_other_data_sets(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust_tables, "FOLDER", tmp_path / "trust")
    Path("tiny.yaml").write_text(RECIPE)
    cli(["fit", "-c", "tiny.yaml"])
    cli(["test", "--ckpt_path", "best", "--name", "tiny", "--corrupt", "noise"])
    trust_tables.opened(find_checkpoint("tiny"))
    with open("runs/ledger.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert "this one included: 3" in capsys.readouterr().out
    rows = trust_corruptions.robustness_rows("runs/tiny")
    assert [row["severity"] for row in rows] == [0, 1, 2, 3, 4, 5]
    trust_tables.write_table(
        "cuts.csv", [{"dataset": "a", "dice": "1"}, {"dataset": "b", "dice": "2"}]
    )
    found = trust_tables.with_other_datasets("cuts.csv", [{"dataset": "b", "dice": "3"}])
    assert found == [{"dataset": "a", "dice": "1"}, {"dataset": "b", "dice": "3"}]
