"""`lightning-seg export program`: programs of torch.export and AOTInductor that give the checkpoint's logits."""

import io
import json
from pathlib import Path

import pytest
import torch
from test_onnx import write_checkpoint

from lightning_seg.errors import InputError
from lightning_seg.export import program as export
from lightning_seg.export.program import FACTS, export_program, main
from lightning_seg.training.module import SegmentationModule


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three levels, so that its sizes are multiples of four."""
    file = tmp_path_factory.mktemp("program") / "polyp.ckpt"
    return write_checkpoint(file, options={"widths": [8, 16, 32]})


def expected(checkpoint: Path, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return SegmentationModule.load(checkpoint)(image).logits


def test_the_program_gives_the_logits_of_the_checkpoint_for_sizes_it_names(checkpoint, tmp_path):
    output = tmp_path / "model.pt2"
    takes, verified = export_program(checkpoint, output)
    assert "multiples of 4 from 8" in takes
    assert "allowed 0.0001" in verified
    facts = {FACTS: ""}
    program = torch.export.load(io.BytesIO(output.read_bytes()), extra_files=facts).module()
    for shape in [(1, 3, 32, 32), (3, 3, 8, 64)]:
        image = torch.rand(shape)
        torch.testing.assert_close(program(image), expected(checkpoint, image), rtol=0, atol=1e-4)
    assert json.loads(facts[FACTS])["classes"] == ["polyp"]


def test_a_size_of_training_between_the_multiples_is_the_only_one(tmp_path):
    odd = write_checkpoint(tmp_path / "odd.ckpt", size=35)
    takes, _ = export_program(odd, tmp_path / "model.pt2")
    assert "35 x 35; no other, because its images have 35 pixels a side" in takes
    program = torch.export.load(io.BytesIO((tmp_path / "model.pt2").read_bytes())).module()
    image = torch.rand(2, 3, 35, 35)
    torch.testing.assert_close(program(image), expected(odd, image), rtol=0, atol=1e-4)


def test_mixed_precision_is_in_the_program_and_keeps_the_masks(checkpoint, tmp_path):
    export_program(checkpoint, tmp_path / "model.pt2", precision="bf16", size=32)
    image = torch.rand(1, 3, 32, 32)
    found = torch.export.load(io.BytesIO((tmp_path / "model.pt2").read_bytes())).module()(image)
    difference = (found - expected(checkpoint, image)).abs().max()
    assert found.dtype == torch.float32
    assert 1e-4 < difference < 0.2


@pytest.mark.slow
def test_a_compiled_package_gives_the_logits_of_the_checkpoint(checkpoint, tmp_path):
    output = tmp_path / "model.pt2"
    export_program(checkpoint, output, aot=True)
    image = torch.rand(2, 3, 40, 32)
    found = torch._inductor.aoti_load_package(str(output))(image)
    torch.testing.assert_close(found, expected(checkpoint, image), rtol=0, atol=1e-4)


def test_a_missing_compiler_is_named(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler"):
        export_program(checkpoint, tmp_path / "model.pt2", aot=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "model.onnx"], "ends with .pt2"),
        (["--precision", "fp8"], "no precision named 'fp8'"),
        (["--size", "4"], "--size is '4'"),
    ],
)
def test_bad_input_is_named_in_one_sentence(checkpoint, tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        main(["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "model.pt2"), *words])
    assert not list(tmp_path.iterdir())
