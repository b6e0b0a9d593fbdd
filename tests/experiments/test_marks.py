"""Marks of the leaderboard's lines: short names that tell them apart, and words seen at once."""

from pathlib import Path

from made_runs import make_run

from experiments.leaderboard import page
from experiments.leaderboard.boards import Board, make_boards
from experiments.leaderboard.marks import board_flags, line_flags, short_names
from experiments.leaderboard.text import LeaderboardContent
from experiments.runs import results_of


def board_of(*runs: Path) -> Board:
    return make_boards([result for run in runs for result in results_of(run)])[0]


def test_names_are_as_short_as_they_can_be_and_differ(tmp_path: Path) -> None:
    board = board_of(
        make_run(tmp_path / "a", 0.9, changes={"model.architecture": "attention_unet"}),
        make_run(tmp_path / "b", 0.8),
        make_run(tmp_path / "c", 0.7, changes={"model.options": {"skip": "dca"}}),
        make_run(tmp_path / "d", 0.6, changes={"model.lr": 0.1}),
    )
    names = short_names(board)
    assert names[0] == "attention_unet x mobilenetv2_100"
    assert names[2] == "unet x mobilenetv2_100, skip=dca"
    assert len(set(names)) == 4
    assert "lr=0.1" in names[3]


def test_what_must_be_known_is_a_badge(tmp_path: Path) -> None:
    [line] = board_of(make_run(tmp_path / "a", 0.8)).lines
    assert [flag.word for flag in line_flags(line)] == ["ONE SEED"]
    both = board_of(make_run(tmp_path / "b", 0.8, 43), make_run(tmp_path / "c", 0.8, 44))
    assert line_flags(both.lines[0]) == []
    leaking = board_of(make_run(tmp_path / "d", 0.8, protocol_digest="f1d10e535545"))
    [flag] = board_flags(leaking.key, leaking.facts)
    assert flag.word == "LEAKS"
    assert "pairs" in flag.meaning
    shown = page.html(LeaderboardContent([leaking], []))
    assert shown.count(">LEAKS</span>") == 2  # in the contents and at the heading
    assert "<summary>recipe</summary>" in shown
