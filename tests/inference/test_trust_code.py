"""Networks outside lightning_seg: a checkpoint names a class, and its module is imported only where that is allowed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lightning_seg as ls
from lightning_seg import cli
from lightning_seg.__main__ import main
from tests.inference.conftest import write_checkpoint

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels: int = 3, num_classes: int = 1) -> None:
        super().__init__()
        self.head = nn.Conv2d(in_channels, num_classes, 3, padding=1)

    def forward(self, image):
        return self.head(image)
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint of ``foreign_net:Net``, in a process that has not imported it."""
    (tmp_path / "foreign_net.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = write_checkpoint(tmp_path / "foreign.ckpt", architecture="foreign_net:Net", options=None)
    del sys.modules["foreign_net"]
    yield file
    sys.modules.pop("foreign_net", None)


@pytest.mark.parametrize(
    "command",
    [
        "test --ckpt_path {file}",
        "validate --ckpt_path {file}",
        "predict --ckpt_path {file}",
        "fit --ckpt_path {file}",
        "predict --ckpt_path {file} --input {file} --output {folder}/out",
        "predict --ckpt_path {own} --ckpt_path {file} --input {file} --output {folder}/out",
        "test --ckpt_path {own} --ensemble {file}",
        "cka {file}",
    ],
)
def test_no_command_imports_what_a_checkpoint_names(
    foreign: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    args = command.format(file=foreign, own=checkpoint, folder=foreign.parent).split()
    with pytest.raises(SystemExit) as exit_:
        main(args)
    assert exit_.value.code == 2
    [sentence] = capsys.readouterr().err.splitlines()
    for words in ("foreign.ckpt", "'foreign_net:Net'", "--trust_code"):
        assert words in sentence
    assert "foreign_net" not in sys.modules


def test_the_library_imports_it_where_it_is_told_to(foreign: Path) -> None:
    with pytest.raises(ls.InputError, match="trust_code=True"):
        ls.load(foreign)
    with pytest.raises(ls.InputError, match="trust_code=True"):
        ls.SegmentationModule.load(foreign)
    assert "foreign_net" not in sys.modules
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert ls.load(foreign, trust_code=True).predict(image).mask.shape == (1, 40, 50)
    assert (
        type(ls.SegmentationModule.load(foreign, trust_code=True).net).__module__ == "foreign_net"
    )


def test_a_network_that_the_command_line_names_is_trained_and_with_trust_tested_and_resumed(
    foreign: Path, tmp_path: Path
) -> None:
    data = ["--data.dataset", "phantom_polyp", "--data.protocol", "auto", "--data.size", "16"]
    options = [
        "--data.batch_size",
        "4",
        "--data.dataset_options",
        '{"count": 12, "resolution": 16}',
        "--model.architecture",
        "foreign_net:Net",
    ]
    trainer = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    cli.run(["fit", *data, *options, *trainer, "--runs", str(tmp_path), "--name", "outside"])
    last = str(next(tmp_path.rglob("last*.ckpt")))
    for command in (["test"], ["fit", "--trainer.max_epochs", "2"]):
        with pytest.raises(ls.InputError, match="--trust_code"):
            cli.run([*command, "--ckpt_path", last])
        cli.run([*command, "--ckpt_path", last, "--trust_code"])
    assert list(tmp_path.rglob("summary.json"))
    with pytest.raises(ls.InputError, match="--trust_code"):  # although the resumed run was told to
        cli.run(
            [
                "fit",
                "--trainer.max_epochs",
                "3",
                "--ckpt_path",
                str(next(tmp_path.rglob("last*.ckpt"))),
            ]
        )
