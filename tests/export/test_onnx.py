"""`lightning-seg export onnx`: what the file takes and gives, what it says of itself, and what is refused."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg as ls
from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.export import onnx as export
from lightning_seg.export._pictures import _spread_evenly, choose_pictures
from lightning_seg.export.onnx import OnnxOptions, export_onnx, main, runner
from lightning_seg.inference.ensemble import load_ensemble
from lightning_seg.training.module import SegmentationModule


def write_checkpoint(path: Path, size: int | None = 32, sharp: bool = True, **changes) -> Path:
    """As `fit` writes it, of a tiny untrained network; ``sharp``: whose masks are neither empty nor full."""
    given = {
        "architecture": "unet",
        "options": {"widths": [8, 16]},
        "classes": ["polyp"],
        **changes,
    }
    torch.manual_seed(0)
    module = SegmentationModule(**given).eval()
    if sharp:
        with torch.no_grad():
            head = [layer for layer in module.net.modules() if isinstance(layer, torch.nn.Conv2d)][
                -1
            ]
            head.weight *= 20
            polyp = (
                torch.from_numpy(render_phantom("polyp", 3, 0, 96)[0]).permute(2, 0, 1)[None] / 255
            )
            head.bias -= module(polyp).logits.mean((0, 2, 3))
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": {
            "dataset": "phantom_polyp",
            "protocol": "phantom-polyp",
            "size": size,
        },
        "lightning_seg": {"protocol": "phantom-polyp", "protocol_digest": "0" * 12},
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return write_checkpoint(folder / "polyp.ckpt")


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Path:
    """Three pictures, larger and smaller than the network's size, and of another shape."""
    place = folder / "pictures"
    place.mkdir()
    for number, (height, width) in enumerate([(70, 90), (64, 45), (25, 30)]):
        Image.fromarray(render_phantom("polyp", 3, number, 96)[0][:height, :width]).save(
            place / f"{number}.png"
        )
    return place


@pytest.fixture(scope="module")
def plain(folder: Path, checkpoint: Path, pictures: Path) -> Path:
    export_onnx(checkpoint, folder / "plain.onnx", OnnxOptions(images=str(pictures)))
    return folder / "plain.onnx"


@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 32, 32), (3, 45, 33), (2, 7, 5), (1, 1, 64)]
)
def test_the_file_gives_the_logits_of_the_checkpoint_for_images_of_any_size_in_any_batch(
    checkpoint, plain, batch, height, width
):
    images = np.random.default_rng(0).random((batch, 3, height, width), np.float32)
    with torch.no_grad():
        expected = SegmentationModule.load(checkpoint)(torch.from_numpy(images)).logits.numpy()
    np.testing.assert_allclose(runner(plain)(images)[0], expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1, "logits near zero would agree with anything"


def test_with_processing_the_file_gives_the_masks_of_predict_at_the_size_of_each_picture(
    folder, checkpoint, pictures
):
    output = folder / "masks.onnx"
    found = export_onnx(
        checkpoint, output, OnnxOptions(processing=True, threshold=0.4, images=str(pictures))
    )
    assert found.shapes.batch
    assert found.shapes.side is None
    model = ls.load(checkpoint, threshold=0.4)
    different, shares = 0, list[float]()
    for path in sorted(pictures.iterdir()):
        image = np.asarray(Image.open(path))
        mask = runner(output)(np.stack([image, image[::-1]]))[0]
        assert mask.dtype == np.uint8
        assert mask.shape == (2, 1, *image.shape[:2])
        expected = model.predict(image).mask
        shares.append(expected.mean())
        different += int((mask[0] != expected).sum())
    assert different <= 2
    assert 0 < np.mean(shares) < 1


def test_a_network_that_takes_images_as_they_are_pads_them_in_the_graph(folder, pictures):
    checkpoint = write_checkpoint(folder / "native.ckpt", size=None)
    output = folder / "native.onnx"
    export_onnx(checkpoint, output, OnnxOptions(processing=True, images=str(pictures)))
    image = np.asarray(Image.open(pictures / "0.png"))[:37, :51]
    assert (
        runner(output)(image[None])[0][0] == ls.load(checkpoint).predict(image).mask
    ).mean() > 0.999


def test_a_fixed_size_is_the_only_one_the_file_takes(folder, checkpoint):
    found = export_onnx(checkpoint, folder / "fixed.onnx", OnnxOptions(size=48))
    assert found.shapes.side == 48
    assert runner(folder / "fixed.onnx")(np.zeros((2, 3, 48, 48), np.float32))[0].shape == (
        2,
        1,
        48,
        48,
    )
    with pytest.raises(InputError, match="does not run"):
        runner(folder / "fixed.onnx")(np.zeros((1, 3, 32, 32), np.float32))


def test_the_file_says_what_it_is(checkpoint, plain):
    import hashlib

    import onnx

    facts = {one.key: one.value for one in onnx.load(plain).metadata_props}
    assert json.loads(facts["classes"]) == ["polyp"]
    assert facts["size"] == "32"
    assert facts["protocol"] == "phantom-polyp"
    assert facts["threshold"] == "0.5"
    assert facts["lightning_seg"] == ls.__version__
    assert facts["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_bfloat16_stores_the_weights_in_about_half_the_bytes_and_keeps_the_masks(folder, pictures):
    wide = write_checkpoint(folder / "wide.ckpt", options={"widths": [16, 32]})
    plain, output = folder / "wide.onnx", folder / "bf16.onnx"
    export_onnx(wide, plain, OnnxOptions(images=str(pictures)))
    found = export_onnx(wide, output, OnnxOptions(quantize="bf16", images=str(pictures)))
    assert output.stat().st_size < 0.8 * plain.stat().st_size
    assert found.verified.found.max_difference > 0
    assert found.verified.found.dice >= 0.99


def test_int8_computes_its_inner_convolutions_in_whole_numbers(folder, checkpoint, monkeypatch):
    import onnx

    monkeypatch.setattr(
        "lightning_seg.export.verify.DICE", 0.9
    )  # an untrained network is all borders
    output = folder / "int8.onnx"
    found = export_onnx(checkpoint, output, OnnxOptions(quantize="int8"))
    kinds = [node.op_type for node in onnx.load(output).graph.node]
    assert kinds.count("QuantizeLinear") >= kinds.count("Conv") - 2
    assert found.verified.found.dice >= 0.9


def test_a_variant_that_changes_the_masks_is_refused_and_leaves_no_file(
    folder, checkpoint, monkeypatch
):
    monkeypatch.setattr("lightning_seg.export.verify.DICE", 1.0)
    monkeypatch.setattr("lightning_seg.export._quantize.SPARED", (0, 1 / 2))
    original, traced = export.to_onnx, []
    monkeypatch.setattr(
        export, "to_onnx", lambda form, *args: traced.append(form) or original(form, *args)
    )
    with pytest.raises(InputError, match="int8 changes the masks"):
        export_onnx(checkpoint, folder / "worse.onnx", OnnxOptions(quantize="int8"))
    assert not list(folder.glob("*worse*"))
    assert len(traced) == 1  # another form would not help


def test_a_file_that_is_not_the_checkpoint_is_refused_and_the_former_one_stays(
    folder, checkpoint, monkeypatch
):
    output = folder / "wrong.onnx"
    output.write_bytes(b"before")
    original = export.to_onnx

    def broken(*args):
        import onnx

        model = original(*args)
        bias = next(tensor for tensor in model.graph.initializer if tensor.dims == [1])
        bias.CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name
            )
        )
        return model

    monkeypatch.setattr(export, "to_onnx", broken)
    with pytest.raises(InputError, match="is not the checkpoint"):
        export_onnx(checkpoint, output, OnnxOptions(size=32))
    assert output.read_bytes() == b"before"


def test_int8_is_calibrated_on_training_images_and_never_on_those_of_the_test_split(
    folder, checkpoint
):
    given = OnnxOptions(quantize="int8")
    found = choose_pictures(
        load_ensemble([checkpoint]), checkpoint, None, 4, "train", "--calibrate"
    )
    assert found.origin == "4 images of the training split of phantom_polyp"
    data = SegmentationDataModule("phantom_polyp", protocol="phantom-polyp", size=32)
    place = folder / "calibrate"
    place.mkdir()
    for id in (*data.ids("train")[:2], data.ids("test")[0]):
        Image.fromarray(data.source.read(id).image).save(place / f"{id}.png")
    with pytest.raises(InputError, match="is an image of the test split of phantom_polyp"):
        export_onnx(
            checkpoint, folder / "tuned.onnx", dataclasses.replace(given, calibrate=str(place))
        )
    assert not (folder / "tuned.onnx").exists()


def test_pictures_are_taken_evenly_from_all():
    assert _spread_evenly(range(31), 16)[-1] == 29
    assert _spread_evenly(range(3), 16) == [0, 1, 2]


class NeedsFours(torch.nn.Module):
    """A network of one's own that takes no other sizes, with a name that timm uses, too."""

    def __init__(self, in_channels: int = 3, num_classes: int = 1) -> None:
        super().__init__()
        self.block = SwinTransformerBlock(in_channels, num_classes)

    def forward(self, image):
        return self.block(image)


class SwinTransformerBlock(torch.nn.Module):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, image):
        assert image.shape[-1] % 4 == image.shape[-2] % 4 == 0
        return self.conv(
            torch.nn.functional.avg_pool2d(image, 4)
            .repeat_interleave(4, -1)
            .repeat_interleave(4, -2)
        )


def test_a_network_that_does_not_take_every_size_gets_one(folder):
    name = f"{__name__}:NeedsFours"
    own = write_checkpoint(folder / "fours.ckpt", sharp=False, architecture=name, options={})
    found = export_onnx(own, folder / "fours.onnx", trust_code=True)
    assert found.shapes[:2] == (True, 32)
    assert "does not take images of every size" in found.takes


def test_pictures_of_five_channels_are_exported(folder):
    many = write_checkpoint(folder / "five.ckpt", sharp=False, in_channels=5)
    assert "(B, 5, H, W)" in export_onnx(many, folder / "five.onnx").takes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "model.onx"], "ends with .onnx"),
        (["--opset", "7"], "opset 7 cannot be written; give one from 18 to 23"),
        (["--size", "big"], "--size is 'big'"),
        (["--size", "100000"], "a whole number from 16 to 8192"),
        (["--threshold", "0.9"], "add that"),
        (["--calibrate", "{folder}"], "is for --quantize int8"),
        (
            ["--quantize", "int8", "--calibrate", "{folder}/nothing"],
            "--calibrate '.*' names no file",
        ),
        (["--output", "x" * 300 + ".onnx"], "cannot be written"),
        (["--quantize", "int4"], "no quantisation named 'int4'"),
        (["--with-processing", "--size", "64"], "leave out --size"),
        (["--images", "{folder}/nothing"], "--images '.*' names no file"),
        (["--with-processing", "--threshold", "2"], "the threshold is 2"),
        (["--output", "{folder}/polyp.ckpt/model.onnx"], "cannot be written"),
    ],
)
def test_bad_input_is_named_in_one_sentence(folder, checkpoint, tmp_path, words, message):
    given = ["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "model.onnx")]
    with pytest.raises(InputError, match=message):
        main([*given, *[word.format(folder=folder) for word in words]])
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_its_cure(checkpoint, tmp_path, monkeypatch):
    original = importlib.util.find_spec
    monkeypatch.setattr(
        export, "find_spec", lambda name: None if name == "onnxscript" else original(name)
    )
    with pytest.raises(InputError, match=r"need onnxscript.*pip install 'lightning_seg\[onnx\]'"):
        export_onnx(checkpoint, tmp_path / "model.onnx")


def test_code_from_outside_runs_only_when_it_is_trusted(folder, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["architecture"] = "somewhere.else:Net"
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(InputError, match="--trust_code"):
        export_onnx(tmp_path / "foreign.ckpt", tmp_path / "model.onnx")
