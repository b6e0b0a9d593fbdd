"""Spelling of options, alike in all commands."""

import argparse
from pathlib import Path

import pytest

from lightning_seg.options import OptionParser, add_model_options, home_expanded, spell_options


@pytest.fixture
def parser():
    parser = OptionParser(prog="it")
    add_model_options(parser)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--output", type=Path)
    return parser


def test_hyphens_and_underscores_are_the_same(parser):
    for spelt in ("--batch-size", "--batch_size"):
        given = parser.parse_args(["--ckpt-path", "a-b.ckpt", spelt, "3"])
        assert (given.ckpt_path, given.batch_size) == (["a-b.ckpt"], 3)
    assert "--batch_size" in parser.format_help()


def test_the_home_folder_is_found_behind_an_equals_sign_too(parser, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for args in (["--output=~/x"], ["--output", "~/x"]):
        assert parser.parse_args(["--ckpt_path", "m", *args]).output == Path("/home/me/x")
    recipe = {"runs": "~/runs", "data": {"root": "~/d", "names": ["~tilde", "a~/b"]}}
    expected = {
        "runs": "/home/me/runs",
        "data": {"root": "/home/me/d", "names": ["~tilde", "a~/b"]},
    }
    assert home_expanded(recipe) == expected


def test_values_stay_as_they_are():
    args = ["fit", "-c", "a-b.yaml", "--data.dataset-options", "{a-b: 1}", "-1", "--", "--x=a-b"]
    expected = [*args[:3], "--data.dataset_options", *args[4:7], "--x=a-b"]
    assert spell_options(args) == expected


def test_a_misspelt_option_is_one_sentence_with_its_near_match(parser, capsys):
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["--ckpt_path", "m", "--batchsize", "3"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "error: there is no option '--batchsize'; did you mean '--batch_size'?\n"
    )


def test_no_option_is_abbreviated(parser):
    with pytest.raises(SystemExit):
        parser.parse_args(["--ckpt_path", "m", "--out", "x"])
    assert isinstance(parser, argparse.ArgumentParser)
