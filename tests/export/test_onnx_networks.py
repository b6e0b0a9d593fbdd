"""Every architecture of the registry, in its small form, through ONNX."""

from pathlib import Path

import pytest
from test_onnx import write_checkpoint

from lightning_seg import models
from lightning_seg.export.onnx import OnnxOptions, export_onnx

QUICK = ("sa_unet", "transunet", "unet", "unet3plus")
SWIN = {"depths": [1, 2, 1, 1], "embed_dim": 12, "num_heads": [1, 1, 1, 1]}
FIXED = ("dca_unet",)  # takes one size only, in its small form
FORMS = [
    ("unet", {"encoder": "test_efficientnet"}),
    ("unet", {"encoder": "test_convnext"}),
    ("unet", {"encoder": "swin_tiny_patch4_window7_224", "encoder_options": SWIN}),
    ("unet3plus", {"streams": "paper", "deep_supervision": True, "cgm": True}),
    ("pam_unet", {"regularizer": 0.01}),
    ("attention_unet", {"gate": "oktay_grid"}),
    ("unet", {"skip": "dca"}),
]


def difference(tmp_path: Path, name: str, given: dict) -> float:
    small = {**getattr(models.find(name), "tiny", {}), **given}
    if "encoder" in given:
        small.pop("widths", None)
    split = {key: small.pop(key) for key in ("encoder", "encoder_options") if key in small}
    checkpoint = write_checkpoint(
        tmp_path / "net.ckpt", 64, sharp=False, architecture=name, options=small, **split
    )
    found = export_onnx(checkpoint, tmp_path / "net.onnx", OnnxOptions())
    assert found.shapes.batch
    assert found.shapes.side is None or (name in FIXED and found.shapes.reason)
    return found.verified.found.max_difference


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in models.names()
    ],
)
def test_each_architecture_gives_the_logits_of_its_checkpoint_in_onnxruntime(tmp_path, name):
    assert difference(tmp_path, name, {}) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "given"), FORMS)
def test_so_do_encoders_of_timm_and_other_forms(tmp_path, name, given):
    assert difference(tmp_path, name, given) <= 1e-4
