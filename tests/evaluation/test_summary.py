"""``summary.json``: what is written is what is read, of this version and of older ones."""

import json
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from lightning_seg.errors import InputError
from lightning_seg.evaluation import Estimate, ScoreTable, Summary
from lightning_seg.evaluation.estimates import count_empty, estimate_scores, estimate_strata
from lightning_seg.evaluation.summary import SCHEMA, VolumeSummary, find_summary, named_data


def table(tp=(50, 20, 0), fp=(5, 5, 3), fn=(1, 8, 0)):
    counts = np.stack([tp, fp, fn, np.full(len(tp), 500)], -1)[:, None]
    ids = tuple(f"i{place}" for place in range(len(tp)))
    return ScoreTable(ids, ("polyp",), counts.astype(np.int64))


def summary(scored=None):
    scored = scored or table()
    volumes = VolumeSummary(1, ["b"], 2.0, {"liver": {"dice": Estimate(0.5, (0.25, 0.75))}})
    return Summary(
        dataset="d",
        protocol="p",
        protocol_digest="abc",
        split="test",
        size=64,
        images=len(scored.ids),
        scores=estimate_scores(scored),
        strata=estimate_strata(scored),
        empty=count_empty(scored),
        volumes=volumes,
        roc_auc={"polyp": {"all": 0.75}},
        looks=2,
    )


def test_what_is_written_is_read_again(tmp_path):
    written = summary()
    written.write(tmp_path)
    read = Summary.read(tmp_path)
    assert read.scores["polyp"]["dice"]["image"] == written.scores["polyp"]["dice"]["image"]
    assert read.volumes == written.volumes
    assert [part.name for part in read.strata["polyp"]] == ["small", "large", "empty"]
    assert (read.empty, read.looks, read.size) == (written.empty, 2, 64)
    again = tmp_path / "again"
    read.write(again)
    assert (again / "summary.json").read_bytes() == (tmp_path / "summary.json").read_bytes()


def test_the_file_is_json_that_every_reader_knows(tmp_path):
    nothing = summary(table((0, 0), (0, 0), (0, 0)))
    nothing.write(tmp_path)
    text = (tmp_path / "summary.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert content["schema"] == SCHEMA
    assert content["scores"]["polyp"]["dice"]["image"] == {"value": None, "interval": [None, None]}
    assert isnan(Summary.read(tmp_path).scores["polyp"]["dice"]["image"].value)


def test_a_file_without_a_schema_is_read(tmp_path):
    old = {
        "dataset": "d",
        "protocol_leaks": True,
        "scores": {"x": {"dice": {"image": {"value": 0.5, "interval": [float("nan"), 0.75]}}}},
        "of_another_time": 1,
    }
    (tmp_path / "summary.json").write_text(json.dumps(old))
    read = Summary.read(tmp_path)
    assert read.scores["x"]["dice"]["image"].value == 0.5
    assert "several of its splits" in read.leaks
    assert (read.looks, read.partial, read.threshold, read.measures) == (None, "", 0.5, {})


@pytest.mark.parametrize("text", ["{", "[1]", '{"scores": 3}', '{"scores": {"x": {"dice": 1}}}'])
def test_a_damaged_file_is_refused_with_a_sentence(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InputError, match="damaged"):
        Summary.read(tmp_path)


def test_a_file_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(InputError, match="newer version"):
        Summary.read(tmp_path)


def test_a_table_without_a_summary_has_one_that_says_nothing(tmp_path):
    assert find_summary(tmp_path) == Summary()
    with pytest.raises(InputError, match=r"cannot be read .* test the run again"):
        Summary.read(tmp_path)


@pytest.mark.parametrize(
    ("digest", "recorded", "said"),
    [
        ("f1d10e535545", False, "12 known pairs of images that show the same"),
        ("f1d10e535545", True, "12 known pairs of images that show the same"),
        ("e4f391a18136", False, ""),
        ("000000000000", True, "images of one patient or sequence"),
    ],
)
def test_a_leak_found_later_is_said_of_results_recorded_before(
    tmp_path: Path, digest: str, recorded: bool, said: str
) -> None:
    content = {"protocol_digest": digest, "protocol_leaks": recorded}
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert Summary.read(tmp_path).leaks.startswith(said)
    assert bool(Summary.read(tmp_path).leaks) == bool(said)


def test_data_of_anyone_have_a_name_of_their_own():
    assert named_data("kvasir_seg", "/data/kvasir.csv") == "kvasir_seg"
    assert named_data("folder", "/data/clinic") == "clinic (folder)"
    assert named_data("scans", "~/ct/livers.csv") == "livers (scans)"
    assert named_data("folder", "") == "folder"
    assert Summary(dataset="folder", data={"root": "/x/clinic.csv"}).data_name == "clinic (folder)"


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (5, "No intervals over 5 groups of images: fewer than 6"),
        (6, "95 % BCa bootstrap intervals over 6 groups of images"),
    ],
)
def test_a_caption_speaks_of_intervals_where_there_are_some(groups, words):
    assert Summary(groups=groups, resampled=f"{groups} groups of images").interval_words == words
