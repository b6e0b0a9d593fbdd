"""Linear CKA against plain numpy and its known identities, and the command from checkpoint to heat map."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_seg.__main__ import main
from lightning_seg.analysis import cka
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.training.module import SegmentationModule


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def similarity(x: Tensor, y: Tensor, batch: int = 0) -> float:
    """CKA of two feature matrices, in batches of ``batch`` (0: one)."""
    estimate = cka.MinibatchCKA()
    for a, b in zip(x.split(batch or len(x)), y.split(batch or len(y)), strict=True):
        estimate.update(cka.gram(a)[None], cka.gram(b)[None])
    return estimate.compute().item()


def numpy_hsic(x: NDArray, y: NDArray) -> float:
    """Equation 3 of the paper, term by term, on features that are not centred."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    first = np.trace(k @ m)
    second = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (one @ k @ m @ one)
    return (first + second - third) / (n * (n - 3))


def test_the_estimator_is_that_of_the_paper() -> None:
    batches = [
        (
            features(7, 5, seed=s),
            features(7, 9, seed=s + 50) + features(7, 5, seed=s).sum(1)[:, None],
        )
        for s in (1, 2, 3)
    ]
    estimate = cka.MinibatchCKA()
    for x, y in batches:
        estimate.update(torch.stack([cka.gram(x), cka.gram(x**3)]), cka.gram(y)[None])
    for row, power in enumerate((1, 3)):
        pairs = [((x**power).numpy(), y.numpy()) for x, y in batches]
        cross, first, second = (
            sum(numpy_hsic(*chosen) for chosen in choice)
            for choice in (pairs, [(x, x) for x, _ in pairs], [(y, y) for _, y in pairs])
        )
        assert estimate.compute()[row, 0].item() == pytest.approx(
            cross / np.sqrt(first * second), abs=1e-5
        )


def test_a_layer_is_wholly_like_itself() -> None:
    assert similarity(features(12, 30), features(12, 30), batch=4) == pytest.approx(1, abs=1e-6)


def test_rotation_scale_and_offset_of_features_change_nothing_but_a_stretch_of_one_axis_does() -> (
    None
):
    x, y = features(16, 10, seed=1), features(16, 6, seed=2) + features(16, 10, seed=1)[:, :6]
    rotation = torch.linalg.qr(features(10, 10, seed=3)).Q
    plain = similarity(x, y, batch=8)
    for same in (x @ rotation, 7 * x, x + 1000):
        assert similarity(same, y, batch=8) == pytest.approx(plain, abs=1e-4)
    assert abs(similarity(x * torch.tensor([100.0] + [1.0] * 9), y, batch=8) - plain) > 0.05


def test_independent_features_are_not_alike_however_small_the_batches() -> None:
    x, y = features(1600, 40, seed=1), features(1600, 40, seed=2)
    assert abs(similarity(x, y, batch=8)) < 0.05  # the biased estimator is above 0.8 here
    assert abs(similarity(x, y, batch=32)) < 0.05


def test_a_batch_too_small_for_the_estimator_is_refused() -> None:
    with pytest.raises(InputError, match="too small"):
        similarity(features(3, 5), features(3, 5))


class Twice(nn.Module):
    """One convolution called twice, and a ReLU that overwrites what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.nothing = nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(self.nothing(self.conv(x))))


def test_layers_come_in_the_order_of_their_calls_as_they_were_then() -> None:
    torch.manual_seed(0)
    net, x = Twice().eval(), features(5, 3, 8, 8).float()
    grams = cka.layer_grams(net, x)
    assert list(grams) == ["conv", "conv#2", "relu"]
    with torch.no_grad():
        second = net.conv(net.conv(x))
    torch.testing.assert_close(grams["conv#2"], cka.gram(second))
    torch.testing.assert_close(grams["relu"], cka.gram(second.relu()))
    assert not any(m._forward_hooks for m in net.modules())
    assert list(cka.layer_grams(net, x, "re*")) == ["relu"]
    with pytest.raises(InputError, match="no layer of Twice"):
        cka.layer_grams(net, x, "decoder.*")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `fit` writes, of networks that were not trained."""
    folder = tmp_path_factory.mktemp("checkpoints")
    data = SegmentationDataModule("phantom_polyp", size=32, batch_size=8)
    for name, widths in (("small", [4, 8]), ("large", [8, 16, 16])):
        torch.manual_seed(0)
        module = SegmentationModule(options={"widths": widths}, classes=data.classes)
        content = {
            "hyper_parameters": dict(module.hparams),
            "datamodule_hyper_parameters": dict(data.hparams),
        }
        torch.save(content | {"state_dict": module.state_dict()}, folder / f"{name}.ckpt")
    return folder / "small.ckpt"


def test_two_checkpoints_give_a_heat_map_and_its_numbers(
    checkpoint: Path, tmp_path: Path, capsys
) -> None:
    picture = tmp_path / "figures" / "similarity.png"
    args = [
        str(checkpoint),
        str(checkpoint.with_name("large.ckpt")),
        "--batches",
        "2",
        "--batch-size",
        "8",
    ]
    main(["cka", *args, "--device", "cpu", "--layers", "*.0", "--output", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    header, *rows = csv.reader(picture.with_suffix(".csv").open())
    assert "16 validation images" in capsys.readouterr().out
    assert header[1:4] == ["encoder.levels.0.0.0", "encoder.levels.0.1.0", "encoder.levels.1.0.0"]
    assert len(header) > len(rows) > 0
    values = np.array([row[1:] for row in rows], dtype=float)
    assert values.min() > -0.5
    assert 0.3 < values.max() <= 1 + 1e-6


def test_a_checkpoint_compared_with_itself_has_ones_on_the_diagonal(checkpoint: Path) -> None:
    module = SegmentationModule.load(checkpoint)
    images = cka.validation_images(checkpoint, batches=2, batch_size=6)
    assert [len(i) for i in images] == [6, 6]
    rows, columns, values = cka.compare_layers(module, module, images)
    assert rows == columns
    torch.testing.assert_close(values.diagonal(), torch.ones(len(rows), dtype=torch.float64))
    torch.testing.assert_close(values, values.T)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["none.ckpt"], "there is no checkpoint"),
        (["none.ckpt", "--batch-size", "3"], "4 images or more"),
        (["none.ckpt", "--device", "abacus"], "cannot be used here"),
    ],
)
def test_bad_input_is_one_sentence(args: list[str], sentence: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["cka", *args])
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
