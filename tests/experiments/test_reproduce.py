"""Which published results can be reproduced, and that a run keeps with what it was made."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from made_runs import make_run

from experiments import published, reproduce
from experiments.facts import RESULTS, load_results
from experiments.published import override_arguments, read_evaluations
from experiments.reproduce import Fit, main, plan
from lightning_seg.analysis.profiling import parse
from lightning_seg.callbacks.run_record import RunRecord
from lightning_seg.errors import InputError
from lightning_seg.models import create
from lightning_seg.runs.environment import hardware, read_environment

RATE = ["--rate", "1e9"]  # multiply-adds per second


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    return {fit.point: fit for fit in plan(read_evaluations())[0]}


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """All data sets and weights are at hand."""
    monkeypatch.setattr(reproduce, "_training_images", lambda dataset, protocol: 100)
    monkeypatch.setattr(reproduce, "_weights", lambda architecture, options: None)


def test_each_fit_has_a_name_of_its_own_and_answers_to_published_rows(fits: dict[str, Fit]) -> None:
    assert len(fits) == len(plan(read_evaluations())[0]) > 60
    card = fits["unet_a/attention_unet-encoder=convnext_tiny.fb_in1k"]
    assert card.changes == {
        "model.architecture": "attention_unet",
        "model.encoder": "convnext_tiny.fb_in1k",
        "model.pretrained": True,
    }
    assert card.published == "0.9411 pooled"
    assert (
        fits["dca_unet_kvasir/double_unet-skip=null"].changes["model.normalization"] == "imagenet"
    )
    assert fits["nanonet_kvasir/nanonet-variant=b"].changes["model.pretrained"] is False
    assert fits["sa_unet_v2_drive/sa_unet_v2"].changes == {}, "the recipe itself"
    assert fits["sa_unet_v2_drive/sa_unet_v2-loss=mcc"].changes == {"model.loss": {"mcc": 1}}


def test_overrides_are_arguments_that_yaml_reads_back(fits: dict[str, Fit]) -> None:
    for fit in fits.values():
        args = override_arguments(fit.changes)
        assert {
            k.removeprefix("--"): yaml.safe_load(v)
            for k, v in zip(args[::2], args[1::2], strict=True)
        } == fit.changes


def test_what_has_no_network_recipe_or_protocol_is_refused_with_the_reason() -> None:
    reasons = plan(read_evaluations())[1]
    assert "segformer_b0 is not among our networks." in reasons
    assert any("how it was trained" in reason for reason in reasons)
    assert any("synapse" in reason or "kvasir_capsule" in reason for reason in reasons)


def test_a_row_of_another_form_of_a_network_is_not_offered(fits: dict[str, Fit]) -> None:
    offered = {evaluation for fit in fits.values() for evaluation in map(id, fit.evaluations)}
    others = [e for e in read_evaluations() if published.OTHER_FORM in e.note]
    assert {e.model for e in others} >= {"attention_unet", "unetplusplus", "unet3plus"}
    assert not offered & set(map(id, others))
    assert "sa_unet_v2_drive/unet3plus" not in fits
    reasons = plan(read_evaluations())[1]
    assert any("with 8.65 million parameters" in reason for reason in reasons)


def test_a_fit_has_as_many_parameters_as_its_source_says(fits: dict[str, Fit]) -> None:
    with (RESULTS / "reported.csv").open(newline="", encoding="utf-8") as file:
        known = {
            (row["model"], row["options"], row["source"].partition(",")[0]): float(row["value"])
            for row in csv.DictReader(file)
            if row["score"] == "parameters"
        }
    checked = 0
    for fit in list(fits.values())[::2]:
        evaluation = fit.evaluations[0]
        source = evaluation.source.partition(",")[0]
        value = known.get((evaluation.model, evaluation.options, source))
        if value is None:
            continue
        text = f"{evaluation.model}:{evaluation.options}".rstrip(":")
        with torch.device("meta"):
            net = create(evaluation.model, **parse(text)[1])
        ours = sum(weights.numel() for weights in net.parameters())
        assert ours == pytest.approx(value, rel=0.07), fit.point  # NanoNet's have dead parts
        checked += 1
    assert checked >= 8


def test_data_and_weights_that_are_not_here_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce._training_images.cache_clear()
    reproduce._weights.cache_clear()
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    main(["--only", "pam_unet_kvasir/pam_unet*", *RATE])
    assert "no root is given and LIGHTNING_SEG_DATA is not set" in capsys.readouterr().out
    monkeypatch.setattr(reproduce, "_training_images", lambda dataset, protocol: 100)
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path))
    main(["--only", "unet_a/*efficientnet*", *RATE])
    said = capsys.readouterr().out
    assert "no pre-trained weights for encoder 'efficientnet_b0'" in said
    assert "can be reproduced here" not in said


def test_minutes_follow_from_images_epochs_and_multiply_adds(
    everything: None, fits: dict[str, Fit]
) -> None:
    fit = fits["pam_unet_kvasir/pam_unet-attention=pla"]
    reproduce._look(fit, rate=1e9)
    macs = 1.31e9  # as its recipe says
    assert fit.minutes == pytest.approx(3 * 100 * 200 * macs / 1e9 / 60, rel=0.01)


def test_a_reduced_form_takes_its_own_minutes(
    everything: None, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--only", "pam_unet_kvasir/pam_unet-attention=pla", *RATE, "--trainer.max_epochs=2"])
    said = capsys.readouterr().out
    assert float(said.split(" min ")[0].split()[-1]) == pytest.approx(
        3 * 100 * 2 * 1.31e9 / 1e9 / 60, abs=0.6
    )


def test_fits_that_take_too_long_are_listed_apart(
    everything: None, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--only", "pam_unet_kvasir/[mu]*", "--fits-minutes", "1500", *RATE])
    short, slow = capsys.readouterr().out.split("take longer than 1500 minutes")
    assert "pam_unet_kvasir/mobile_unet" in short
    assert "pam_unet_kvasir/unet-encoder=resnet50" in slow
    assert (
        "lightning-seg fit -c experiments/pam_unet_kvasir.yaml --model.architecture mobile_unet"
        in short
    )


def test_the_machine_s_rate_is_measured() -> None:
    assert 1e7 < reproduce.measure_rate(seconds=0.05) < 1e15


def test_fits_are_run_as_a_sweep_and_recorded_once(
    everything: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[list[str]] = []

    def sweep(args: list[str]) -> None:
        """Trains what the file asks for, unless it is there."""
        calls.append(args)
        given = dict(zip(args[::2], args[1::2], strict=True))
        content = yaml.safe_load(Path(given["--sweep"]).read_text(encoding="utf-8"))
        assert Path(content["recipe"]).is_file()
        for number, model in enumerate(content["models"]):
            for seed in map(int, given["--seeds"].split(",")):
                folder = (
                    Path(given["--runs"]) / given["--study"] / f"trial_{number}{seed}" / "version_0"
                )
                if not folder.exists():
                    make_run(folder, 0.8, seed, {"model.encoder": None, **model["overrides"]})

    (tmp_path / "reported.csv").write_bytes((RESULTS / "reported.csv").read_bytes())
    monkeypatch.setattr(reproduce.sweep, "main", sweep)
    ask = [
        "--only",
        "pam_unet_kvasir/deep_res*",
        "--run",
        "--seeds",
        "1,2",
        "--workers",
        "2",
        *RATE,
    ]
    where = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path)]
    for _ in range(2):
        main([*ask, *where, "--trainer.max_epochs", "3"])
    assert calls[0][-4:] == ["--workers", "2", "--trainer.max_epochs", "3"]
    assert calls[0] == calls[1]
    recorded = load_results(tmp_path)
    assert [(r.facts.architecture, r.facts.seed) for r in recorded] == [
        ("deep_residual_unet", 1),
        ("deep_residual_unet", 2),
    ]
    study = Path(dict(zip(calls[0][::2], calls[0][1::2], strict=True))["--study"]).name
    assert study == "reproduce_pam_unet_kvasir_trainer.max_epochs-3", (
        "a reduced form is a study of its own"
    )


def test_a_misspelt_option_or_name_is_a_sentence(everything: None) -> None:
    with pytest.raises(InputError, match="--onyl"):
        main(["--onyl", "x"])
    with pytest.raises(InputError, match="chooses none of the"):
        main(["--only", "nothing", *RATE])


def trainer(folder: Path, **changes: Any) -> SimpleNamespace:
    """As much of a trainer as the record of a run asks for."""
    epochs = SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=True))
    return SimpleNamespace(
        **{
            "strategy": SimpleNamespace(root_device=torch.device("cpu")),
            "logger": SimpleNamespace(log_dir=str(folder)),
            "default_root_dir": str(folder),
            "world_size": 1,
            "precision": "32-true",
            "current_epoch": 0,
            "is_global_zero": True,
            "fast_dev_run": False,
            "max_epochs": 3,
            "callbacks": [],
            "fit_loop": SimpleNamespace(epoch_loop=epochs),
        }
        | changes
    )


def test_a_run_keeps_its_command_and_each_sitting(tmp_path: Path) -> None:
    first = RunRecord(["fit", "-c", "a.yaml"])
    first.on_train_start(trainer(tmp_path), None)
    first.on_train_epoch_end(trainer(tmp_path), None)  # and is killed in its second epoch
    again = RunRecord(["fit", "--ckpt_path", "x.ckpt"])
    again.on_train_start(trainer(tmp_path, current_epoch=1), None)
    again.on_train_epoch_end(trainer(tmp_path, current_epoch=1), None)
    again.on_fit_end(trainer(tmp_path, current_epoch=2), None)
    kept = read_environment(tmp_path)
    assert kept["command"] == ["fit", "-c", "a.yaml"], "which names the recipe"
    assert [sitting["command"][-1] for sitting in kept["sittings"]] == ["a.yaml", "x.ckpt"]
    assert [sitting["epochs"] for sitting in kept["sittings"]] == [1, 2]
    assert all(
        {"commit", "cpu", "torch", "precision", "minutes", "threads", "load"} <= set(sitting)
        for sitting in kept["sittings"]
    )
    assert not list(tmp_path.glob("*.part"))


def test_only_the_main_process_writes_and_a_trial_run_leaves_nothing(tmp_path: Path) -> None:
    for changes in ({"is_global_zero": False}, {"fast_dev_run": True}):
        RunRecord([]).on_train_start(trainer(tmp_path, **changes), None)
    assert read_environment(tmp_path) == {}


def test_hardware_is_named_with_the_number_of_its_devices() -> None:
    assert hardware({"gpu": "NVIDIA H200", "cpu": "AMD EPYC", "devices": 2}) == "2 x NVIDIA H200"
    assert hardware({"cpu": "AMD EPYC, 2 cores", "devices": 1}) == "AMD EPYC, 2 cores"
    assert json.loads("{}") == read_environment(Path("nowhere"))
