"""``record --contributed``: what is accepted of others, and what is named as missing."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_runs import make_run

from experiments.facts import load_results
from experiments.record import main as record
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable


def _environment(run: Path, sitting: dict[str, Any], **changes: Any) -> None:
    file = run / "environment.json"
    kept = json.loads(file.read_text(encoding="utf-8"))
    for each in kept["sittings"]:
        each |= sitting
    file.write_text(json.dumps(kept | changes))


def contributed(tmp_path: Path, *runs: Path) -> None:
    record(["--contributed", *map(str, runs), "--results", str(tmp_path / "results")])


def complete_run(folder: Path, dice: float, seed: int = 42, **summary: Any) -> Path:
    """A run that lacks nothing."""
    weights = {"name": "mobilenetv2_100", "file": "m.safetensors", "sha256": "7f82"}
    return make_run(folder / "version_0", dice, seed, encoder_weights=weights, **summary)


def test_a_contribution_that_lacks_nothing_is_recorded(tmp_path: Path) -> None:
    runs = [complete_run(tmp_path / "runs" / f"s{seed}", 0.8, seed) for seed in (42, 43)]
    contributed(tmp_path, *runs)
    assert {result.facts.seed for result in load_results(tmp_path / "results")} == {42, 43}


@pytest.mark.parametrize(
    ("sitting", "ending", "summary", "fault"),
    [
        ({"commit": "27c2e10-dirty"}, None, {}, "its code differs from the commit"),
        ({"commit": ""}, None, {}, "commit is not known"),
        ({}, {"status": "interrupted", "epochs_planned": 60, "epochs_done": 12}, {}, "INTERRUPTED"),
        ({}, None, {"protocol_digest": "0" * 12}, "is none of the project"),
        ({}, None, {"looks": None}, "looks is not known"),
        ({}, None, {"encoder_weights": {}}, "sha256 of its encoder weights"),
        ({}, None, {"partial": "20 of 100 images"}, "was not tested on a whole split"),
    ],
)
def test_what_a_contribution_lacks_is_named_and_nothing_recorded(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sitting: dict[str, Any],
    ending: dict[str, Any] | None,
    summary: dict[str, Any],
    fault: str,
) -> None:
    run = make_run(tmp_path / "runs" / "a" / "version_0", 0.8, **summary)
    _environment(run, sitting=sitting, **({"ending": ending} if ending else {}))
    with pytest.raises(InputError, match="nothing was recorded"):
        contributed(tmp_path, run)
    assert fault in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_a_seed_that_is_held_back_and_a_table_changed_by_hand_are_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = (
        complete_run(tmp_path / "runs" / name, 0.8, seed) for name, seed in (("a", 42), ("b", 43))
    )
    with pytest.raises(InputError, match="1 fault in what"):
        contributed(tmp_path, good)
    assert "is another seed (43) of the same training" in capsys.readouterr().out
    [file] = bad.glob("test-*/*/scores.csv")
    table = ScoreTable.read(file)
    table.counts[:, :, 0] += 30
    table.write(file)
    with pytest.raises(InputError, match="1 fault in what"):
        contributed(tmp_path, good, bad)
    assert "do not say the same" in capsys.readouterr().out
