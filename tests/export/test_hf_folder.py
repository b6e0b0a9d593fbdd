"""``lightning-seg export hf``: the folder, its image processor, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hf_runs import run_alone, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lightning_seg as ls
from lightning_seg.__main__ import main
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError
from lightning_seg.export import _check, hf
from lightning_seg.export.remote.image_processing_lightning_seg import LightningSegImageProcessor
from lightning_seg.export.remote.image_processing_lightning_seg import resize as resize_alone


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "polyp.ckpt")


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder, by the command line, under a relative name."""
    place = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        main(["export", "hf", "--ckpt_path", str(checkpoint), "--output", "out"])
    return place / "out"


def test_model_processor_and_pipeline_do_what_the_checkpoint_does_where_lightning_seg_is_absent(
    folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    picture = render_phantom("polyp", 0, 2, 96)[0][:, :80]
    Image.fromarray(picture).save(tmp_path / "image.png")
    run_alone(
        f"""
import numpy as np
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline
model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained({str(folder)!r}, trust_remote_code=True)
outputs = model(pixel_values=processor(Image.open("image.png"), return_tensors="pt")["pixel_values"])
masks = processor.post_process_masks(outputs, [(96, 80)])[0]
classes = processor.post_process_semantic_segmentation(outputs, [(96, 80)])[0]
[found] = pipeline("image-segmentation", model={str(folder)!r}, trust_remote_code=True)("image.png")
assert found["label"] == "polyp" and 0.5 < found["score"] < 1
np.savez("found.npz", masks=masks.numpy(), classes=classes.numpy(), piped=np.array(found["mask"]))
""",
        tmp_path,
    )
    found = np.load(tmp_path / "found.npz")
    expected = ls.load(checkpoint).predict(picture).mask
    assert 0.05 < expected.mean() < 0.95
    assert (found["masks"] != expected).mean() < 2e-3  # a grey level of a few pixels
    np.testing.assert_array_equal(found["classes"], np.where(found["masks"][0], 0, -1))
    np.testing.assert_array_equal(found["piped"], found["masks"][0] * 255)


def test_the_configuration_names_the_classes_and_all_arguments_of_the_network(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "polyp"}
    assert config["label2id"] == {"polyp": 0}
    assert config["network"] == {
        "encoder": None,
        "in_channels": 3,
        "num_classes": 1,
        "widths": [4, 8],
        "form": "unet_a",
        "skip": None,
        "encoder_options": None,
    }
    assert (folder / "model.safetensors").stat().st_mode & 0o044  # others may read it


def test_a_folder_in_use_is_refused_an_earlier_export_is_replaced_when_asked(
    checkpoint: Path, tmp_path: Path, unchecked: None
) -> None:
    output = tmp_path / "out"
    hf.export_hf(checkpoint, output)
    (output / "config.json").write_text((output / "config.json").read_text() + "\n\n")
    with pytest.raises(InputError, match="by an earlier export; give --overwrite"):
        hf.export_hf(checkpoint, output)
    hf.export_hf(checkpoint, output, overwrite=True)
    assert not (output / "config.json").read_text().endswith("\n\n")
    (output / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is in use; give a folder that does not exist"):
        hf.export_hf(checkpoint, output, overwrite=True)
    assert (output / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_model_that_is_not_the_checkpoint_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(folder: Path, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"logits": torch.zeros(2, 1, 32, 32), "processed": tensors["pixel_values"]}

    monkeypatch.setattr(_check, "_load_alone", shifted)
    with pytest.raises(InputError, match="logits differ by up to"):
        hf.export_hf(checkpoint, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_load_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nassert len(sys.argv) == 4\nfrom json import no_such_thing\n")
    monkeypatch.setattr(_check, "SCRIPT", script)
    with pytest.raises(
        InputError, match=r"does not load without lightning_seg.*cannot import name 'no_such_thing'"
    ):
        hf.export_hf(checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [script]


def test_what_cannot_be_exported_is_named_before_anything_is_loaded(
    tmp_path: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = torch.load(checkpoint)
    content["hyper_parameters"]["architecture"] = "elsewhere:Net"
    torch.save(content, tmp_path / "outside.ckpt")
    with pytest.raises(InputError, match=r"'elsewhere:Net' is not of lightning_seg"):
        hf.export_hf(tmp_path / "outside.ckpt", tmp_path / "out")
    with pytest.raises(InputError, match=r"'polyps' is no name on the Hub; give user/name"):
        hf.export_hf(checkpoint, tmp_path / "out", "polyps")
    monkeypatch.setattr(hf, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'lightning_seg\[hf\]'"):
        hf.export_hf(checkpoint, tmp_path / "out")
    with pytest.raises(SystemExit):
        main(["export", "hff"])
    assert "no kind of export named 'hff'; did you mean 'hf'?" in capsys.readouterr().err


def test_the_kinds_of_export_are_listed_without_torch(capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == ["hf", "onnx", "program"]
    code = "from lightning_seg.__main__ import main; main(['export']); import sys; assert 'torch' not in sys.modules"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(5, 150)] * 2),
    st.tuples(*[st.integers(4, 120)] * 2),
    st.sampled_from([1, 3]),
    st.integers(),
)
def test_pictures_are_scaled_as_in_training_but_for_one_grey_level_of_few_pixels(
    old: tuple[int, int], new: tuple[int, int], channels: int, seed: int
) -> None:
    noise = np.random.default_rng(abs(seed)).integers(0, 256, (*old, channels), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2).reshape(noise.shape)
    for image in (noise, smooth):
        expected = resize_sample(Sample(image, image[..., :1]), new).image.astype(int)
        found = resize_alone(image, new).astype(int)
        assert np.abs(found - expected).max() <= 1
        assert (found != expected).sum() <= max(3, 0.05 * found.size)


def test_the_processor_takes_what_pictures_come_as() -> None:
    image, _ = render_phantom("polyp", 0, 2, 48)
    processor = LightningSegImageProcessor({"height": 32, "width": 24})
    tensor = processor([image, Image.fromarray(image)], return_tensors="pt")["pixel_values"]
    assert tensor.shape == (2, 3, 32, 24)
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor[0], tensor[1])
    assert 0 <= tensor.min() < tensor.max() <= 1
    grey = LightningSegImageProcessor(None, 1)(image)["pixel_values"][0]
    np.testing.assert_array_equal(
        grey[0] * 255, np.array(Image.fromarray(image).convert("L")).astype(np.float32)
    )
    with pytest.raises(ValueError, match="is no picture"):
        processor(image.astype(np.float32))
    with pytest.raises(ValueError, match="takes 5 channels"):
        LightningSegImageProcessor(None, 5)(image)


def test_of_classes_that_overlap_the_class_map_shows_the_last_and_the_masks_show_all() -> None:
    logits = torch.full((1, 2, 4, 4), -5.0)
    logits[0, 0, :3] = 4  # a liver
    logits[0, 1, 1:2, :2] = 1  # a tumor in it
    processor = LightningSegImageProcessor(None)
    [masks] = processor.post_process_masks({"logits": logits})
    [found] = processor.post_process_semantic_segmentation({"logits": logits})
    assert masks.sum((1, 2)).tolist() == [12, 2]
    assert found.tolist() == [[0] * 4, [1, 1, 0, 0], [0] * 4, [-1] * 4]
    [panoptic] = processor.post_process_panoptic_segmentation({"logits": logits})
    assert [(s["label_id"], round(s["score"], 3)) for s in panoptic["segments_info"]] == [
        (0, 0.982),
        (1, 0.731),
    ]
    with pytest.raises(ValueError, match="1 images and 2 target_sizes"):
        processor.post_process_masks({"logits": logits}, [(8, 8), (8, 8)])


@pytest.mark.slow
def test_exclusive_classes_are_so_where_lightning_seg_is_absent(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "two.ckpt", classes=["a", "b"], exclusive=True)
    main(["export", "hf", "--ckpt_path", str(file), "--output", str(tmp_path / "out")])
    picture = render_phantom("polyp", 0, 2, 96)[0][:, :80]
    Image.fromarray(picture).save(tmp_path / "image.png")
    run_alone(
        """
import numpy as np, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained("out", trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained("out", trust_remote_code=True)
pixels = processor(Image.open("image.png"), return_tensors="pt")["pixel_values"]
masks = processor.post_process_masks(model(pixel_values=pixels), [(96, 80)])[0]
labels = torch.zeros(1, 2, *pixels.shape[2:])
assert model(pixel_values=pixels, labels=labels).loss.isfinite()
np.save("found.npy", masks.numpy())
""",
        tmp_path,
    )
    found, expected = np.load(tmp_path / "found.npy"), ls.load(file).predict(picture).mask
    assert found.sum(0).max() == 1
    assert (found != expected).mean() < 2e-3
