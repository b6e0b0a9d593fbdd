"""Engines beside torch: the same masks, chosen by measurement, left aside with a sentence where they fail."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg as ls
from lightning_seg.errors import InputError
from lightning_seg.evaluation.scoring import Scoring
from lightning_seg.inference import engines
from lightning_seg.inference.__main__ import main
from lightning_seg.inference.options import ENGINES
from tests.inference.conftest import write_checkpoint

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lightning_seg" / "engines"


@pytest.fixture
def pictures() -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (40, 48, 3), np.uint8) for _ in range(3)]


def test_onnxruntime_gives_the_masks_of_torch_and_says_that_it_does(
    tmp_path: Path, pictures: list[Any], own_cache: Path
) -> None:
    file = write_checkpoint(tmp_path / "x.ckpt")
    torch_, other = ls.load(file), ls.load(file, engine="onnxruntime")
    for ours, theirs in zip(other.predict(pictures), torch_.predict(pictures), strict=True):
        assert np.abs(ours.probability - theirs.probability).max() < 1e-5
        assert 0 < theirs.mask.mean() < 1
        assert (ours.mask == theirs.mask).mean() > 0.999
    [note] = other.network.engine_notes
    calibrated = {"scale": [0.3], "shift": [0.4]}
    scaled = write_checkpoint(tmp_path / "scaled.ckpt", calibration=calibrated)
    ours, theirs = (ls.load(scaled, engine=name).predict(pictures[0]) for name in ENGINES[:2])
    assert np.abs(ours.probability - theirs.probability).max() < 1e-5
    assert np.abs(ours.probability - other.predict(pictures[0]).probability).max() > 0.05
    assert note.startswith("onnxruntime: 0 of 3072 pixels")
    assert torch_.network.engine_notes == []
    assert len(list(own_cache.glob("*.onnx"))) == 2  # whatever the batches, one of each network


@pytest.mark.slow
def test_auto_takes_the_fastest_and_keeps_the_choice(
    tmp_path: Path, pictures: list[Any], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_checkpoint(tmp_path / "x.ckpt")
    seconds = {True: 3.0, False: 1.0}  # of torch and the other
    monkeypatch.setattr(
        engines.EngineNetwork, "_seconds", lambda self, compute, image: seconds[compute is None]
    )
    monkeypatch.setattr(engines, "find_spec", lambda name: name != "openvino" or None)
    first = ls.load(file, engine="auto")
    first.predict(pictures)
    assert "onnxruntime computes, the fastest" in first.network.engine_notes[-1]
    seconds[True] = 0.1  # is not asked again
    second = ls.load(file, engine="auto")
    second.predict(pictures)
    assert [note.partition(":")[0] for note in second.network.engine_notes] == ["onnxruntime"]
    [kept] = own_cache.glob("*.json")
    kept.write_text("{}")
    third = ls.load(file, engine="auto")
    third.predict(pictures)
    assert "torch computes, the fastest" in third.network.engine_notes[-1]


@pytest.mark.slow
def test_an_engine_that_disagrees_fails_or_cannot_write_is_left_aside_with_a_sentence(
    tmp_path: Path, pictures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_checkpoint(tmp_path / "x.ckpt")
    expected = ls.load(file).predict(pictures)

    def notes(engine: str = "onnxruntime") -> list[str]:
        model = ls.load(file, engine=engine)
        for ours, theirs in zip(model.predict(pictures), expected, strict=True):
            assert (ours.mask == theirs.mask).all()
        return model.network.engine_notes

    wrong = lambda image: torch.full((len(image), 1, 32, 32), 1.0)  # noqa: E731
    monkeypatch.setattr(engines, "_onnxruntime", lambda file, precision: wrong)
    left, computes = notes()
    assert "pixels of the first masks are others than torch's" in left
    assert computes == "torch computes"
    assert notes("auto")[-1] == "torch computes"

    def broken(file: Path, precision: str) -> Any:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(engines, "_onnxruntime", broken)
    assert "it does not load the network (no such operator)" in notes()[0]


@pytest.mark.slow
def test_a_cached_file_that_is_damaged_is_no_mask(
    tmp_path: Path, pictures: list[Any], own_cache: Path
) -> None:
    file = write_checkpoint(tmp_path / "x.ckpt")
    ls.load(file, engine="onnxruntime").predict(pictures)
    [kept] = own_cache.glob("*.onnx")
    kept.write_bytes(b"no network")
    model = ls.load(file, engine="onnxruntime")
    ours, theirs = model.predict(pictures[0]), ls.load(file).predict(pictures[0])
    assert (ours.mask == theirs.mask).all()
    assert model.network.engine_notes[-1].startswith(("torch computes", "onnxruntime: 0 of"))


def test_an_unknown_an_absent_and_an_unable_engine_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(InputError, match="did you mean 'onnxruntime'"):
        ls.load(file, engine="onnxruntim")
    with pytest.raises(InputError, match="does not compute in --precision bf16"):
        ls.load(file, engine="onnxruntime", precision="bf16")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'lightning_seg\[onnx\]'"):
        ls.load(file, engine="onnxruntime")


def test_predict_names_the_engine_and_a_test_its_folder(
    tmp_path: Path, pictures: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_checkpoint(tmp_path / "x.ckpt")
    (tmp_path / "in").mkdir()
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "in" / f"{place}.png")
    given = ["--ckpt_path", str(file), "--input", str(tmp_path / "in"), "--devices", "cpu"]
    main([*given, "--output", str(tmp_path / "a"), "--engine", "onnxruntime"])
    assert "engine:   onnxruntime: 0 of" in capsys.readouterr().out
    main([*given, "--output", str(tmp_path / "b")])
    assert "engine:" not in capsys.readouterr().out
    for place in range(3):
        one, other = (next((tmp_path / out).rglob(f"{place}*.png")) for out in "ab")
        assert one.read_bytes() == other.read_bytes()
    assert Scoring(engine="auto").label == "engine=auto"
    assert Scoring().label == ""
    assert "engine" not in Scoring().inference
    assert Scoring(engine="auto").inference["engine"] == "auto"
