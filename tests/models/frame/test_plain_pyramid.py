"""Plain vision transformers as pyramids: their taps, sizes, weights and rates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

import lightning_seg as ls
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.models import TimmEncoder, encoder_parameters
from lightning_seg.models.frame.plain_pyramid import quarter_taps

TINY = {"embed_dim": 32, "num_heads": 2, "depth": 8}
PLAIN = ["test_vit", "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "eva02_tiny_patch14_224"]


def tiny(name: str) -> dict[str, int]:
    return {} if name == "test_vit" else TINY


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("size", [(64, 64), (70, 50), (33, 97)])
def test_a_pyramid_covers_images_of_any_size_at_the_strides_it_states(
    name: str, size: tuple[int, int]
) -> None:
    encoder = TimmEncoder(name, 1, tiny(name)).eval()
    with torch.no_grad():
        pyramid = encoder(torch.rand(1, 1, *size))
    assert encoder.strides == (4, 8, 16, 32)
    for level, channels, stride in zip(pyramid, encoder.channels, encoder.strides, strict=True):
        assert level.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert level.isfinite().all()


@pytest.mark.parametrize(("name", "own"), [("vit_tiny_patch16_224", 64), ("vit_tiny_patch14", 56)])
def test_taps_are_the_maps_that_timm_gives_of_the_same_image(name: str, own: int) -> None:
    name = "vit_small_patch14_dinov2" if "14" in name else name
    encoder = TimmEncoder(name, options=TINY).eval()
    torch.manual_seed(0)
    plain = timm.create_model(name, dynamic_img_size=True, num_classes=0, **TINY).eval()
    plain.load_state_dict(encoder.body.model.state_dict(), strict=False)
    seen: list[list[torch.Tensor]] = []
    assert encoder.pyramid is not None
    encoder.pyramid.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        encoder(image)
        scaled = F.interpolate(image, (own, own), mode="bilinear")
        expected = plain.forward_intermediates(
            scaled, indices=[1, 3, 5, 7], intermediates_only=True
        )
    for tap, one in zip(seen[0], expected, strict=True):
        torch.testing.assert_close(tap, one)


def test_taps_lie_at_the_ends_of_the_quarters() -> None:
    assert quarter_taps(12) == [2, 5, 8, 11]
    assert quarter_taps(24) == [5, 11, 17, 23]
    assert quarter_taps(6) == [1, 2, 4, 5]


def test_taps_can_be_named_and_must_be_four() -> None:
    named = TimmEncoder("vit_tiny_patch16_224", options={**TINY, "out_indices": [0, 1, 2, 3]})
    assert len(named.body.model.blocks) == 4  # what lies behind the last tap is left out
    with pytest.raises(InputError, match="tapped 2 times; give 4 blocks as out_indices"):
        TimmEncoder("vit_tiny_patch16_224", options={**TINY, "out_indices": [0, 1]})


def test_every_tap_and_step_learns() -> None:
    net = ls.create("unet", encoder="vit_tiny_patch16_224", encoder_options=TINY)
    net(torch.rand(2, 3, 64, 64)).square().mean().backward()
    unused = [n for n, p in net.named_parameters() if p.grad is None and "cls_token" not in n]
    assert unused == []


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("unetplusplus", {}),
        ("attention_unet", {}),
        ("transunet", {"image_size": 96}),
        ("deeplab_v3_plus", {"output_stride": None}),
    ],
)
def test_networks_take_a_plain_transformer_as_any_other_encoder(
    architecture: str, options: dict[str, Any]
) -> None:
    name = "vit_small_patch14_dinov2"
    net = ls.create(architecture, encoder=name, encoder_options=TINY, **options).eval()
    with torch.no_grad():
        logits = net(torch.rand(1, 3, 70, 90))
    assert logits.shape == (1, 1, 70, 90)


def test_the_rate_of_the_encoder_is_that_of_its_trained_part_alone() -> None:
    net = ls.create("unet", encoder="vit_tiny_patch16_224", encoder_options=TINY)
    slow = encoder_parameters(net)
    assert slow.keys() == {f"encoder.body.{n}" for n, _ in net.encoder.body.named_parameters()}
    layered = encoder_parameters(net, layered=True)
    first, last = "encoder.body.model.blocks.0.", "encoder.body.model.blocks.7."
    assert layered[f"{first}norm1.weight"] - layered[f"{last}norm1.weight"] == 7


def test_an_encoder_of_one_size_says_so() -> None:
    net = ls.create("unet", encoder="mixer_s32_224").eval()
    with (
        torch.no_grad(),
        pytest.raises(
            InputError, match=r"takes images of 224 x 224 pixels and these are 64 x 96.*data.size"
        ),
    ):
        net(torch.rand(1, 3, 64, 90))


def test_create_starts_from_published_weights_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path))
    published = timm.create_model("test_vit")
    save_file(published.state_dict(), tmp_path / "test_vit.safetensors")
    net = ls.create("unet", encoder="test_vit", pretrained=True)
    wanted = published.state_dict()["blocks.0.attn.qkv.weight"]
    assert torch.equal(net.encoder.body.model.blocks[0].attn.qkv.weight, wanted)
    with pytest.raises(InputError, match="without a timm encoder, so `pretrained` has no weights"):
        ls.create("unet", pretrained=True)


def test_maps_of_a_backbone_without_padding_lie_at_the_strides_that_it_states() -> None:
    encoder = TimmEncoder("legacy_xception").eval()
    with torch.no_grad():
        pyramid = encoder(torch.rand(1, 3, 96, 64))
    for level, stride in zip(pyramid, encoder.strides, strict=True):
        assert level.shape[-2:] == (96 // stride, 64 // stride)


def test_a_size_that_a_backbone_does_not_take_is_one_sentence() -> None:
    encoder = TimmEncoder("halonet_h1").eval()
    with pytest.raises(
        InputError, match=r"256 x 256 pixels at least, or such and these are 96 x 64"
    ):
        encoder(torch.rand(1, 3, 96, 64))


def phantoms(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Synthetic slices of an abdomen (N, 1, 64, 64) and their first organ."""
    drawn = [render_phantom("ct", 42, index, 64) for index in range(first, first + count)]
    images, masks = (np.stack(each) for each in zip(*drawn, strict=True))
    image = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5
    return image, torch.from_numpy(masks[..., :1]).permute(0, 3, 1, 2).float()


@pytest.mark.slow
def test_a_plain_transformer_learns_an_organ_of_phantoms() -> None:
    """After 60 steps a network finds it in slices that it never saw; everything marked is .23."""
    torch.manual_seed(0)
    net = ls.create(
        "unet", encoder="vit_tiny_patch16_224", encoder_options={**TINY, "depth": 4}, in_channels=1
    )
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    image, mask = phantoms(1000, 96)
    for _ in range(60):
        chosen = torch.randperm(len(image))[:8]
        loss = F.binary_cross_entropy_with_logits(net(image[chosen]), mask[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, mask = phantoms(100, 16)
    with torch.no_grad():
        found = (net.eval()(image) > 0).float()
    dice = 2 * (found * mask).sum() / (found.sum() + mask.sum())
    assert dice > 0.7
