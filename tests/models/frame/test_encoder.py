"""Encoders: timm's backbones as pyramids, and where their weights come from."""

import hashlib
import os
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from lightning_seg.errors import InputError
from lightning_seg.models import TimmEncoder

FAMILIES = ("test_resnet", "test_convnext", "test_efficientnet")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as LIGHTNING_SEG_WEIGHTS, an empty hub cache, and no hub."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def publish(name: str, folder: Path, without: str | None = None) -> tuple[torch.nn.Module, Path]:
    """Write a whole classifier with random weights as its published file would be, and return both."""
    torch.manual_seed(1)
    classifier = timm.create_model(name).eval()
    file = folder / f"{name}.safetensors"
    state = classifier.state_dict()
    if without:
        state = {key: t for key, t in state.items() if not key.startswith(without)}
    save_file(state, file)
    return classifier, file


@pytest.mark.parametrize("name", [*FAMILIES, "swin_tiny_patch4_window7_224"])
def test_a_pyramid_goes_from_fine_to_coarse_with_the_channels_and_strides_it_states(
    name: str,
) -> None:
    encoder = TimmEncoder(name, 1).eval()
    with torch.no_grad():
        pyramid = encoder(torch.rand(1, 1, 96, 64))
    assert list(encoder.strides) == sorted(encoder.strides)
    assert encoder.strides[-1] == 32
    for level, channels, stride in zip(pyramid, encoder.channels, encoder.strides, strict=True):
        assert level.shape == (1, channels, 96 // stride, 64 // stride)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_come_from_the_named_folder_and_their_origin_is_told(
    name: str, weights: Path
) -> None:
    classifier, file = publish(name, weights)
    encoder = TimmEncoder(name).eval()
    assert encoder.load_weights() == {
        "name": name,
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = classifier.forward_intermediates(image, intermediates_only=True)
        pyramid = encoder(image)
    torch.testing.assert_close(pyramid[-1], expected[-1])


def test_weights_for_three_channels_serve_a_grey_image_as_if_it_were_repeated(
    weights: Path,
) -> None:
    publish("test_resnet", weights)
    grey, colour = TimmEncoder("test_resnet", 1).eval(), TimmEncoder("test_resnet", 3).eval()
    grey.load_weights()
    colour.load_weights()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            grey(image)[-1], colour(image.expand(-1, 3, -1, -1))[-1], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    ("name", "without"), [("test_resnet", "layer3"), ("test_convnext", "stages.2")]
)
def test_a_file_that_lacks_tensors_of_the_encoder_is_refused(
    name: str, without: str, weights: Path
) -> None:
    publish(name, weights, without)
    with pytest.raises(InputError, match="lacks"):
        TimmEncoder(name).load_weights()


def test_a_file_without_the_classifier_is_complete(weights: Path) -> None:
    publish("test_resnet", weights, without="fc.")
    assert TimmEncoder("test_resnet").load_weights()["file"] == "test_resnet.safetensors"


def test_weights_that_are_nowhere_are_told_at_once(weights: Path) -> None:
    encoder = TimmEncoder("test_resnet.r160_in1k")
    start = time.monotonic()
    with pytest.raises(
        InputError, match=r"no pre-trained weights for encoder 'test_resnet.r160_in1k'.*pretrained"
    ):
        encoder.load_weights()
    assert time.monotonic() - start < 2


def test_a_misspelt_encoder_is_answered_with_its_near_match() -> None:
    with pytest.raises(
        InputError, match=r"no encoder named 'convnext_tinny'; did you mean.*'convnext_tiny'"
    ):
        TimmEncoder("convnext_tinny")


def test_an_unknown_tag_is_answered_with_the_tags_there_are() -> None:
    with pytest.raises(
        InputError, match=r"no weights tagged 'fb_in1'; there are.*convnext_tiny.fb_in1k"
    ):
        TimmEncoder("convnext_tiny.fb_in1")


def test_a_backbone_without_a_pyramid_is_refused() -> None:
    with pytest.raises(InputError, match="neither a pyramid nor maps of one stride"):
        TimmEncoder("resnet18", options={"out_indices": (3, 4)})


def test_options_that_a_backbone_does_not_take_are_refused() -> None:
    with pytest.raises(InputError, match="timm cannot build encoder 'test_resnet'"):
        TimmEncoder("test_resnet", options={"no_such_option": 1})


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_efficientnet_b4"])
def test_real_weights_load_whole_and_give_finite_maps(name: str) -> None:
    folder = os.environ.get("LIGHTNING_SEG_WEIGHTS")
    if not folder or not (Path(folder) / f"{name}.safetensors").is_file():
        pytest.skip(f"LIGHTNING_SEG_WEIGHTS does not hold {name}.safetensors")
    encoder = TimmEncoder(name).eval()
    encoder.load_weights()
    published = load_file(Path(folder) / f"{name}.safetensors")
    for key, tensor in encoder.body.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, published[key].float(), rtol=0, atol=0)
    with torch.no_grad():
        assert all(level.isfinite().all() for level in encoder(torch.rand(1, 3, 64, 64)))
