"""A campaign works through its trainings by priority and goes on after any kill, with the scores of one that ran through."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments import campaign, reproduce
from experiments.campaign import Forecast, read_campaign
from experiments.facts import RECIPES
from lightning_seg.errors import InputError
from lightning_seg.runs import Run

TINY = """
seed_everything: 1
trainer: {accelerator: cpu, max_epochs: %d, enable_progress_bar: false}
data: {dataset: phantom_polyp, protocol: %s, size: 32, batch_size: 4, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.02}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A campaign of two trainings that take seconds."""
    rows = [
        f"polyp-{i:04d},{'train' if i < 24 else 'val' if i < 30 else 'test'}" for i in range(40)
    ]
    protocol = tmp_path / "tiny.csv"
    protocol.write_text("\n".join(["# name: tiny", "# version: 1", "id,split", *rows]))
    (tmp_path / "tiny.yaml").write_text(TINY % (20, protocol))
    fits = [
        {"name": "wide", "recipe": "tiny.yaml", "seeds": [2], "overrides": {"model.lr": 0.01}},
        {
            "name": "plain",
            "recipe": "tiny.yaml",
            "seeds": [1],
            "overrides": {"trainer.max_epochs": 2},
        },
    ]
    (tmp_path / "few.yaml").write_text(yaml.safe_dump({"fits": fits}))
    return tmp_path / "few.yaml"


def asked(tiny: Path, runs: str, *more: str) -> list[str]:
    where = ["--runs", str(tiny.parent / runs), "--results", str(tiny.parent / f"{runs}-results")]
    return ["reproduce", "--campaign", str(tiny), *where, "--threads", "1", "--nice", "0", *more]


def start(tiny: Path, runs: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "experiments", *asked(tiny, runs)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for(condition, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def epochs(folder: Path) -> int:
    try:
        return Run.open(folder).ending.epochs_done
    except (InputError, ValueError):
        return 0


def sittings(folder: Path) -> int:
    try:
        return len(Run.open(folder).sittings)
    except (InputError, ValueError):
        return 0


def score_tables(runs: Path) -> dict[Path, bytes]:
    """The score tables below ``runs``."""
    files = runs.glob("few/*/version_*/test-*/*/scores.csv")
    return {file.relative_to(runs): file.read_bytes() for file in files}


def at_work(runs: Path) -> bool:
    """Whether any process holds the campaign's lock."""
    try:
        with campaign._alone(runs / "few"):
            return False
    except InputError:
        return True


@pytest.mark.slow
def test_a_campaign_that_is_killed_goes_on_and_ends_as_one_that_ran_through(tiny: Path) -> None:
    calm = start(tiny, "calm")
    said, _ = calm.communicate(timeout=600)
    assert calm.returncode == 0, said
    assert "2 of 2 fits are left" in said
    assert "0 of 2 fits are left" in said
    assert said.index("few/wide-seed2") < said.index("few/plain-seed1"), "by priority"
    runs = tiny.parent / "wild"
    folder = runs / "few" / "wide-seed2"
    for sitting in (1, 2):
        before, wild = epochs(folder), start(tiny, "wild")
        wait_for(lambda: sittings(folder) == sitting and epochs(folder) > before)  # noqa: B023
        assert at_work(runs), "so that a second campaign is refused"
        os.kill(wild.pid, signal.SIGKILL)
        wild.communicate()
        wait_for(lambda: not at_work(runs))  # the training ends with it
    end = start(tiny, "wild")
    said, _ = end.communicate(timeout=600)
    assert end.returncode == 0, said
    assert "--ckpt_path last" in said
    calm_scores, wild_scores = (score_tables(tiny.parent / name) for name in ("calm", "wild"))
    assert calm_scores == wild_scores
    assert len(wild_scores) == 2


@pytest.mark.slow
def test_a_campaign_ends_with_its_minutes_and_keeps_its_epochs(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = asked(tiny, "short", "--limit-minutes", "1.5")[1:]
    reproduce.main(command)
    said = capsys.readouterr().out
    [first, _] = read_campaign(tiny, tiny.parent / "short")
    assert 0 < first.done <= first.epochs
    assert first.state in said


@pytest.mark.slow
def test_each_fit_of_the_shipped_campaign_works(tmp_path: Path) -> None:
    fits = read_campaign(RECIPES / "campaigns" / "papers.yaml", tmp_path)
    assert {fit.config["trainer.max_epochs"] for fit in fits} == {50, 60, 100, 150, 200}


def test_the_shipped_campaign_is_the_papers_runs_by_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"trainer.max_epochs": 150, "seed_everything": 42}
    monkeypatch.setattr(campaign, "dry_run", lambda recipe, args: config)
    fits = read_campaign(RECIPES / "campaigns" / "papers.yaml", tmp_path)
    names = list(dict.fromkeys(fit.name for fit in fits))
    assert names[:3] == ["sa_unet_v2", "mobile_unet", "deep_residual_unet"]
    assert names.index("unet_mobilenetv2") < names.index("pam_unet-ct") < names.index("nanonet-c")
    assert names[-1] == "unet_a-mobilenetv2"
    assert sum(fit.name.startswith("dca_unet") for fit in fits) == 6
    assert all(fit.state == "not begun" for fit in fits)
    first = fits[0].command()
    assert first[:3] == ["fit", "-c", str(RECIPES / "sa_unet_v2_drive.yaml")]
    assert first[first.index("--name") + 1] == "papers/sa_unet_v2-seed42"
    assert fits[0].epochs == 150


def test_what_is_left_is_told_without_beginning(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce.main(asked(tiny, "none", "--limit-minutes", "0")[1:])
    said = capsys.readouterr().out
    assert "2 of 2 fits are left" in said
    assert not (tiny.parent / "none").exists()


def test_a_training_is_timed_by_its_own_epochs(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = read_campaign(tiny, tiny.parent / "runs")
    monkeypatch.setattr(campaign, "_minutes", lambda fit: 30.0 if fit.name == "wide" else 0.0)
    monkeypatch.setattr(
        campaign.CampaignFit, "done", property(lambda fit: 10 if fit.name == "wide" else 0)
    )
    monkeypatch.setattr(campaign.CampaignFit, "trained", property(lambda fit: False))
    forecast = Forecast.of(fits)
    assert forecast.hours_left(fits[0]) == pytest.approx(30 / 10 * 10 / 60)
    # the other has the same network and images, and 2 epochs instead of 20
    assert forecast.hours_left(fits[1]) == pytest.approx(30 / 10 * 2 / 60)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("fits: []", "needs fits:"),
        ("fits: [{name: a}]", "give it as {name, recipe, seeds}"),
        ("fits: [{name: a, recipe: unet_b}]", "did you mean 'unet_a'"),
        ("fits: [{name: a, recipe: unet_a, seed: 1}]", "did you mean 'seeds'"),
        ("fits: [{name: a, recipe: unet_a, seeds: 1}]", "give a list"),
        ("fits: [{name: a, recipe: unet_a, overrides: {model.lr: fast}}]", "a of .* does not work"),
        ("fits: [{name: a, recipe: unet_a}, {name: a, recipe: unet_a}]", "a-seed42 twice"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_campaign_is_refused_before_anything_is_trained(
    tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=words):
        read_campaign(file, tmp_path / "runs")
