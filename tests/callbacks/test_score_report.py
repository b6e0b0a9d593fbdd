"""Scores of a part of a split: said, kept apart, and taken by nothing as those of the split."""

from pathlib import Path

import pytest
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from made_runs import write_recipe

from experiments.runs import results_of
from lightning_seg import cli
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.evaluation import Summary
from lightning_seg.reports.run_page import open_run, report
from lightning_seg.runs.scored_models import find_scores

RECIPE = {
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1},
    "data": {
        "dataset": "phantom_polyp",
        "protocol": "tiny.csv",
        "size": 32,
        "batch_size": 2,
        "dataset_options": {"resolution": 32},
    },
    "model": {"architecture": "unet", "options": {"widths": [4, 8]}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was tested in full, then in part."""
    folder = tmp_path_factory.mktemp("partial")
    recipe = write_recipe(folder, RECIPE, SPLITS)
    where = ["--runs", str(folder), "--name", "a"]
    cli.run(["fit", "-c", str(recipe), *where])
    best = ["--ckpt_path", "best", *where]
    cli.run(["test", *best])
    cli.run(["test", *best, "--trainer.limit_test_batches", "1"])
    cli.run(["validate", *best, "--trainer.limit_val_batches", "1"])
    return folder / "a" / "version_0"


SPLITS = ["train"] * 4 + ["val"] * 3 + ["test"] * 5


def test_a_part_of_a_split_lies_apart_and_the_whole_stays(run: Path) -> None:
    images = {file.parents[1].name: len(file.read_text().splitlines()) - 1
              for file in run.glob("*/*/scores.csv")}  # fmt: skip
    assert images == {"test-tiny": 5, "partial-test-tiny": 2, "partial-val-tiny": 2}
    assert find_scores(run.parent).parent.parent.name == "test-tiny"


def test_the_summary_of_a_part_says_of_how_much_and_why(run: Path) -> None:
    part = Summary.read(next(run.glob("partial-test-tiny/*")))
    assert part.partial == "2 of 5 images (limit_test_batches 1)"
    assert next(part.cautions()).startswith("PARTIAL: 2 of 5 images")
    whole = Summary.read(next(run.glob("test-tiny/*")))
    assert whole.partial == ""
    assert not any("PARTIAL" in caution for caution in whole.cautions())


def test_the_test_before_a_partial_one_says_how_few_images_it_has(run: Path) -> None:
    whole = Summary.read(next(run.glob("test-tiny/*")))
    assert any(caution.startswith("only 5 images") for caution in whole.cautions())


def test_a_partial_test_is_no_result(run: Path) -> None:
    assert [result.table.ids for result in results_of(run)] == [
        tuple(f"polyp-{place:04d}" for place in range(7, 12))
    ]


def test_the_report_shows_the_whole_split_first_and_marks_the_part(run: Path) -> None:
    opened = open_run(run)
    assert [bool(result.summary.partial) for result in opened.results] == [False, True, True]
    page = report(opened, predictions=False)
    assert "PARTIAL" in page
    for result in opened.results:
        assert result.summary.partial in page


def test_the_option_that_leaves_images_out_is_named(run: Path) -> None:
    best = ["--ckpt_path", "best", "--runs", str(run.parents[1]), "--name", "a"]
    cli.run(["validate", *best, "--trainer.overfit_batches", "1"])
    part = Summary.read(next(run.glob("partial-val-tiny/*")))
    assert part.partial == "2 of 3 images (overfit_batches 1)"


@pytest.mark.parametrize("limit", [[], ["--trainer.limit_test_batches", "2"]])
def test_a_table_that_lacks_images_for_no_known_reason_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, limit: list[str]
) -> None:
    """One of two processes that was started without the other, as under a scheduler."""
    before = {file: file.read_bytes() for file in run.rglob("*s.csv")}

    def half(module: SegmentationDataModule, split: str) -> object:
        data = module._datasets[split]
        sampler = UnrepeatedDistributedSampler(data, 2, 1, shuffle=False)
        return module._loader(data, sampler, drop_last=False)

    monkeypatch.setattr(SegmentationDataModule, "_in_order", half)
    best = ["--ckpt_path", "best", "--runs", str(run.parents[1]), "--name", "a"]
    with pytest.raises(InputError, match="holds 2 of the 5 test images, and no option left"):
        cli.run(["test", *best, *limit])
    assert {file: file.read_bytes() for file in run.rglob("*s.csv")} == before
