"""Networks by name: what a user may type, and how a new network joins."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lightning_seg import models
from lightning_seg.errors import InputError
from lightning_seg.models.frame import registry

PLAIN = '''
"""One convolution. Differs from the paper: there is none."""

from typing import Literal

from torch import nn


class PlainNet(nn.Conv2d):
    """One convolution."""

    def __init__(self, in_channels: int = 3, num_classes: int = 1, kernel: Literal[1, 3] = 3) -> None:
        super().__init__(in_channels, num_classes, kernel, padding=kernel // 2)
'''


@pytest.fixture
def plain_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A made-up network in the file plain_net.py of a folder on the import path."""
    file = tmp_path / "plain_net.py"
    file.write_text(PLAIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return file


def test_a_misspelt_architecture_is_answered_with_its_near_match() -> None:
    with pytest.raises(
        InputError,
        match="no architecture named 'unett'; did you mean 'unet'\\? There are attention_unet, ",
    ):
        models.create("unett")


def test_a_misspelt_option_is_answered_with_its_near_match() -> None:
    with pytest.raises(InputError, match="no option of unet named 'width'; did you mean 'widths'"):
        models.create("unet", width=(8, 16))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {"widths": "wide"}),
        ("unet", {"num_classes": 1.5}),
        ("unet3plus", {"streams": "papre"}),
        ("unet", {"encoder": 34}),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_before_anything_is_built(
    name: str, options: dict[str, object]
) -> None:
    with pytest.raises(
        InputError, match=f"{name} does not take these options.*{next(iter(options))}"
    ):
        models.create(name, **options)


def test_a_network_with_its_own_encoder_takes_no_other() -> None:
    with pytest.raises(
        InputError, match="sa_unet has an encoder of its own and cannot take 'resnet34'"
    ):
        models.create("sa_unet", encoder="resnet34")
    assert models.create("sa_unet", encoder=None, encoder_options={}, widths=(4, 8)) is not None


@pytest.mark.parametrize(
    "name", ["attention_unet", "resunet", "transunet", "unet", "unet3plus", "unetplusplus"]
)
def test_widths_of_an_encoder_from_scratch_are_none_of_a_timm_encoder(name: str) -> None:
    with pytest.raises(
        InputError,
        match=r"widths \(4, 8\) are for an encoder from scratch and 'test_resnet' has its own",
    ):
        models.create(name, encoder="test_resnet", widths=(4, 8))


def test_options_of_a_timm_encoder_need_one() -> None:
    with pytest.raises(InputError, match="name one in `encoder`"):
        models.create("unet", encoder_options={"drop_path_rate": 0.1})


def test_a_network_of_another_package_is_named_by_module_and_class(plain_net: Path) -> None:
    assert models.create("plain_net:PlainNet", num_classes=2, kernel=1)(
        torch.rand(1, 3, 5, 6)
    ).shape == (1, 2, 5, 6)
    assert list(models.options("plain_net:PlainNet")) == ["in_channels", "num_classes", "kernel"]
    with pytest.raises(InputError, match=r"does not take these options.*kernel"):
        models.create("plain_net:PlainNet", kernel=2)


@pytest.mark.parametrize("name", ["plain_net:NoNet", "no_such_module:PlainNet"])
def test_a_module_or_class_that_is_not_there_is_told_by_name(name: str, plain_net: Path) -> None:
    with pytest.raises(InputError, match=f"no architecture '{name}'"):
        models.create(name)


def test_a_new_file_is_a_new_network_without_touching_another(
    plain_net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "__file__", str(plain_net.parent / "frame" / "registry.py"))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(plain_net.parent)])
    assert models.names() == ["plain_net"]
    assert models.create("plain_net", in_channels=1).in_channels == 1


def test_a_file_whose_class_is_misspelt_is_a_sentence(
    plain_net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "__file__", str(plain_net.parent / "frame" / "registry.py"))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(plain_net.parent)])
    plain_net.rename(plain_net.with_name("plain_nett.py"))
    importlib.invalidate_caches()
    with pytest.raises(
        InputError, match=r"plain_nett.py holds no class whose name, in lower case, is 'plainnett'"
    ):
        models.create("plain_nett")
