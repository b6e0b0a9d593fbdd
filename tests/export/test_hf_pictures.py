"""The exported image processor reads pictures as training did, by a window where it had one, and
the card says what the folder leaves out."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hf_runs import WIDTHS, write_checkpoint
from PIL import Image

from lightning_seg.__main__ import main
from lightning_seg.data.reading.deep import picture_form
from lightning_seg.export.card import card
from lightning_seg.export.hf import export_hf
from lightning_seg.export.onnx import OnnxOptions, export_onnx
from lightning_seg.export.remote.image_processing_lightning_seg import LightningSegImageProcessor

DEEP = np.random.default_rng(0).integers(0, 4096, (24, 40), dtype=np.uint16)


def windowed_checkpoint(place: Path) -> Path:
    file = write_checkpoint(place / "deep.ckpt", dataset="folder", in_channels=1)
    content = torch.load(file)
    options = {"in_channels": 1, "window": [0, 4095]}
    content["datamodule_hyper_parameters"]["dataset_options"] = options
    torch.save(content, file)
    return file


def test_the_processor_reads_by_the_window_of_the_training(tmp_path: Path) -> None:
    processor = LightningSegImageProcessor(None, 1, window=[0, 4095])
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(DEEP).save(tmp_path / "a.png", exif=exif)
    expected = picture_form(1, [0, 4095]).read(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        found = processor(picture)["pixel_values"][0]
        assert processor.size_of(picture) == (40, 24)
    np.testing.assert_array_equal(found[0] * 255, expected[..., 0].astype(np.float32))
    with pytest.raises(ValueError, match="8 bits, and the window"):
        processor((DEEP // 16).astype(np.uint8))
    with pytest.raises(ValueError, match="more than 8 bits"):
        LightningSegImageProcessor(None, 1)(Image.open(tmp_path / "a.png"))


def test_the_processor_says_what_load_says_of_a_picture() -> None:
    coloured = np.zeros((8, 8, 3), np.uint8) + np.uint8([200, 60, 60])
    with pytest.warns(UserWarning, match="of which the network sees the grey alone"):
        LightningSegImageProcessor(None, 1)(Image.fromarray(coloured))
    with pytest.warns(UserWarning, match="no value above 1 of 255"):
        LightningSegImageProcessor(None, 3)(coloured // 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LightningSegImageProcessor(None, 3)(coloured)
        LightningSegImageProcessor(None, 1)(coloured[..., 0])


@pytest.mark.slow
def test_a_folder_and_a_file_of_a_windowed_network_say_and_keep_the_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, window = windowed_checkpoint(tmp_path), "pixels are those of the window (0.0, 4095.0)"
    main(["export", "hf", "--ckpt_path", str(file), "--output", str(tmp_path / "hf")])
    assert window in capsys.readouterr().out
    assert '"window": [' in (tmp_path / "hf" / "preprocessor_config.json").read_text()
    text = (tmp_path / "hf" / "README.md").read_text()
    assert "pipeline(" not in text
    assert "the window [0, 4095]" in text
    (tmp_path / "pictures").mkdir()
    Image.fromarray(DEEP).save(tmp_path / "pictures" / "a.png")
    options = OnnxOptions(processing=True, images=str(tmp_path / "pictures"))
    assert window in export_onnx(file, tmp_path / "deep.onnx", options).takes


def test_the_card_of_a_network_of_crops_says_that_predict_slides_a_window(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "crops.ckpt", size=None)
    content = torch.load(file)
    content["datamodule_hyper_parameters"]["crop"] = 48
    torch.save(content, file)
    assert "slides a window of 48 x 48 pixels" in card(file, "jane/crops")
    assert "slides a window" not in card(write_checkpoint(tmp_path / "whole.ckpt"), "jane/whole")


def test_the_snippet_of_exclusive_classes_takes_the_most_probable(tmp_path: Path) -> None:
    given = {"classes": ["outer", "inner"], "exclusive": True, "options": WIDTHS}
    text = card(write_checkpoint(tmp_path / "two.ckpt", **given), "jane/two")
    assert '["logits"].argmax(1)  # (1, H, W): 0 is the background, 1 outer, 2 inner' in text
    assert "sigmoid() > 0.5" not in text
    assert "above 0: in the mask" not in text
    assert "one channel for the background and each of outer, inner" in text


@pytest.mark.slow
def test_an_exported_crop_network_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_checkpoint(tmp_path / "crops.ckpt", size=None)
    content = torch.load(file)
    content["datamodule_hyper_parameters"]["crop"] = 48
    torch.save(content, file)
    assert "slides a window of 48 pixels" in export_hf(file, tmp_path / "out").note
    main(["export", "onnx", "--ckpt_path", str(file), "--output", str(tmp_path / "crops.onnx")])
    assert "slides a window of 48 pixels" in capsys.readouterr().out
