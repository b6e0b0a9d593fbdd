"""Data sets outside the project, ``module:Class``: their code runs where a person named or trusts it."""

import sys

import pytest

from lightning_seg.__main__ import main
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.sources.base import registry, source_class, trust_source
from lightning_seg.errors import InputError

CODE = """
import numpy as np
from lightning_seg.data.sources.base import Sample

class Squares:
    classes = ("square",)
    in_channels = 3
    default_protocol = "auto"

    def __init__(self, root=None, side=8):
        self.ids = [f"s{i}" for i in range(10)]
        self.groups = {id: id for id in self.ids}
        self.side = side

    def read(self, id):
        mask = np.zeros((32, 32, 1), np.uint8)
        mask[4 : 4 + self.side, 4 : 4 + self.side] = 1
        return Sample(np.repeat(mask * 200, 3, axis=2), mask)
"""


@pytest.fixture
def name(tmp_path, monkeypatch):
    (tmp_path / "my_squares.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_TRUSTED", set())
    yield "my_squares:Squares"
    sys.modules.pop("my_squares", None)


def test_code_outside_runs_only_when_trusted(name):
    with pytest.raises(InputError, match="--trust_code"):
        source_class(name)
    assert "my_squares" not in sys.modules
    trust_source(name)
    data = SegmentationDataModule(name, size=32, dataset_options={"side": 12})
    assert data.classes == ("square",)
    assert data.source.read("s0").mask.sum() == 144


@pytest.mark.parametrize(
    ("named", "sentence"),
    [("no_such_module:X", "No module"), ("my_squares:np", "is no data set: it lacks classes")],
)
def test_what_is_no_data_set_is_one_sentence(name, named, sentence):
    trust_source(named)
    with pytest.raises(InputError, match=sentence):
        source_class(named)


@pytest.mark.slow
def test_a_data_set_of_ones_own_trains_and_its_checkpoint_asks_for_trust(name, monkeypatch, capsys):
    size = ["--data.size", "32", "--data.num_workers", "0", "--data.batch_size", "4"]
    net = ["--model.options", "{widths: [4, 8]}", "--trainer.max_epochs", "1"]
    main(["fit", "--data.dataset", name, *size, *net, "--name", "own"])
    monkeypatch.setattr(registry, "_TRUSTED", set())
    with pytest.raises(SystemExit):
        main(["test", "--ckpt_path", "runs/own"])
    assert "--trust_code" in capsys.readouterr().err
    main(["test", "--ckpt_path", "runs/own", "--trust_code"])
    main(["predict", "--ckpt_path", "runs/own", "--trust_code"])
