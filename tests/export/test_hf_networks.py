"""Every network of the registry as a model of transformers: the same logits, from code that needs no lightning_seg."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_runs import build
from transformers import AutoModel, dynamic_module_utils

from lightning_seg import models
from lightning_seg.export._code import flat_sources
from lightning_seg.export.hf import write_model
from lightning_seg.inference.ensemble import Ensemble, Trained

TOLERANCE = 1e-4
SMALL_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 12, "num_heads": [1, 1, 1, 1]}
KNOWN = {"torch", "timm", "transformers", "PIL", "numpy", *sys.stdlib_module_names}
# further forms of networks: other files, buffers that no file of weights holds, outputs beside the logits
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("attention_unet", {"encoder": "test_convnext", "in_channels": 1}),
    ("unet", {"encoder": "swin_tiny_patch4_window7_224", "encoder_options": SMALL_SWIN}),
    (
        "unet",
        {"encoder": "test_efficientnet", "options": {"skip": {"name": "dca", "patch_size": 8}}},
    ),
    (
        "unet3plus",
        {
            "options": {
                "widths": [4, 8, 16],
                "streams": "paper",
                "deep_supervision": True,
                "cgm": True,
            }
        },
    ),
    ("pam_unet", {"encoder": None, "options": {"variant": "repo", "last_width": None}}),
    ("nanonet", {"options": {"shortcut": "fixed"}, "classes": ["liver", "tumor"]}),
]


@pytest.fixture(autouse=True, scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Code of models is copied to a folder of the tests; to one for all, for transformers makes it a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules"))
        )
        patch.setattr(sys, "path", list(sys.path))
        yield


def tiny(name: str) -> dict[str, Any]:
    given = dict(getattr(models.find(name), "tiny", {}))
    own = {key: given.pop(key) for key in ("encoder", "encoder_options") if key in given}
    return {"options": given, **own}


def write(folder: Path, name: str, **arguments: Any) -> Any:
    """The folder of a network, and its module."""
    module = (
        build(name, **{**tiny(name), **arguments})
        if "encoder" not in arguments
        else build(name, **arguments)
    )
    folder.mkdir(parents=True)
    trained = Trained(tuple(module.classes), module.hparams["in_channels"], 64, "phantom_polyp", {})
    write_model(folder, Ensemble([module], trained), module.hparams["loss"])
    return module


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*((name, {}) for name in models.names()), *FORMS],
    ids=lambda value: str(value)[:40],
)
def test_the_logits_of_every_network_are_those_of_its_module(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    module = write(tmp_path / "model", name, **arguments)
    model, report = AutoModel.from_pretrained(
        tmp_path / "model", trust_remote_code=True, output_loading_info=True
    )
    assert not any(report.values()), report
    assert model.config.id2label == dict(enumerate(module.classes))
    for height, width in ((64, 64), (65, 47)):
        image = torch.rand(2, module.hparams["in_channels"], height, width)
        with torch.no_grad():
            found, expected = model(pixel_values=image)["logits"], module(image).logits
        assert float((found - expected).abs().max()) <= TOLERANCE
        assert expected.std() > 0


@pytest.mark.parametrize("name", models.names())
def test_the_files_of_a_network_import_nothing_but_the_known_libraries_and_each_other(
    name: str,
) -> None:
    files = flat_sources([models.find(name).__module__, "lightning_seg.training.losses"])
    assert f"{name}.py" in files
    assert not {"registry.py", "weights.py", "listing.py"} & files.keys()
    for text in files.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert f"{node.module}.py" in files
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                )
                assert {each.partition(".")[0] for each in names} <= KNOWN
        assert not any(word in text for word in ("hf_hub_download", "sha256", "jsonargparse"))


def test_an_import_that_cannot_be_made_relative_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_network.py").write_text("import lightning_seg.models.frame.blocks\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(
        ValueError, match=r"`import lightning_seg.models.frame.blocks` cannot be made relative"
    ):
        flat_sources(["odd_network"])


def test_two_exports_whose_folders_share_a_name_do_not_share_code(tmp_path: Path) -> None:
    folders = {name: tmp_path / name / "hf" for name in ("unet", "vnet")}
    modules = {name: write(folder, name) for name, folder in folders.items()}
    image = torch.rand(1, 3, 64, 64)
    for name, folder in folders.items():
        model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        with torch.no_grad():
            torch.testing.assert_close(
                model(pixel_values=image)["logits"], modules[name](image).logits
            )


def test_a_model_that_is_saved_again_loads_again(tmp_path: Path) -> None:
    module = write(tmp_path / "first", "attention_unet")
    model = AutoModel.from_pretrained(tmp_path / "first", trust_remote_code=True)
    model.save_pretrained(tmp_path / "second")
    again = AutoModel.from_pretrained(tmp_path / "second", trust_remote_code=True)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(pixel_values=image)["logits"], module(image).logits)


def test_labels_give_the_training_loss_and_uint8_is_scaled(tmp_path: Path) -> None:
    module = write(
        tmp_path / "model", "ddanet", loss={"bce": 1.0, "dice": {"weight": 2.0, "per_image": True}}
    )
    model = AutoModel.from_pretrained(tmp_path / "model", trust_remote_code=True)
    image = (torch.rand(2, 3, 64, 64) * 255).to(torch.uint8)
    mask = torch.rand(2, 1, 64, 64).round()
    output = module(image)
    found = model(pixel_values=image, labels=mask[:, 0])
    expected = module.loss(output.logits, mask) + output.penalty
    torch.testing.assert_close(found["loss"], expected)
    torch.testing.assert_close(found.logits, output.logits)
    with pytest.raises(ValueError, match="do not fit logits"):
        model(pixel_values=image, labels=mask[..., :32])
