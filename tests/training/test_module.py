"""`SegmentationModule`: its loss, its settings as values, and the network that prediction needs alone."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from lightning_seg import cli
from lightning_seg.errors import InputError
from lightning_seg.evaluation.scoring import Scoring
from lightning_seg.models import Output
from lightning_seg.models.frame.normalization import ImageNetwork, NetworkForm
from lightning_seg.runs.trained_network import network_form
from lightning_seg.training.module import NETWORK, OPTIMIZATION, SegmentationModule
from lightning_seg.training.optimizer import Optimization

NARROW = {"widths": [4, 8]}


def test_the_loss_is_that_of_the_logits_the_mean_of_the_deep_ones_and_the_penalty():
    module = SegmentationModule(options=NARROW, loss={"bce": 1.0})
    module.log = lambda *args, **kwargs: None
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 1, 8, 8, generator=generator) for _ in range(4)]
    mask = (torch.rand(2, 1, 8, 8, generator=generator) > 0.5).to(torch.uint8)
    bce = torch.nn.BCEWithLogitsLoss()
    first, *deep = [bce(each, mask.float()) for each in maps]
    expected = first + sum(deep) / 3 + 0.25
    output = Output(maps[0], tuple(maps[1:]), torch.tensor(0.25))
    torch.testing.assert_close(module._loss(output, {"mask": mask}, "train"), expected)


def test_settings_are_values_that_nobody_changes():
    module = SegmentationModule(options=NARROW, lr=0.5, ema=0.9)
    assert (module.optimization.lr, module.optimization.ema) == (0.5, 0.9)
    for settings, name in ((module.optimization, "lr"), (module.scorer.scoring, "tta")):
        with pytest.raises(FrozenInstanceError):
            setattr(settings, name, None)


def test_hyper_parameters_hold_every_setting_under_its_name_of_old():
    given = {"options": NARROW, "lr": 0.5, "freeze": {"encoder": 1}}
    hparams = SegmentationModule(**given).hparams
    assert {key: hparams[key] for key in given} == given
    assert set(hparams) == {
        *(field.name for field in fields(NetworkForm)),
        *(field.name for field in fields(Optimization)),
        *("pretrained", "loss", "compile", "activation_checkpointing"),
    }
    assert set(NETWORK) | set(OPTIMIZATION) < set(hparams)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimizer": "adan"}, "did you mean 'adam'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"schedule_options": {"gamma": 1}}, "takes no schedule_options"),
        ({"warmup": 1.0}, "at least 0 and below 1"),
        ({"encoder_lr": 0.0}, "a factor above 0"),
        ({"layer_decay": 1.5}, "at most 1"),
        ({"ema": 1.0}, "between 0 and 1"),
    ],
)
def test_a_wrong_setting_is_a_sentence(given, words):
    with pytest.raises(InputError, match=words):
        Optimization(**given)


def test_what_prediction_needs_of_a_module_is_its_network():
    module = SegmentationModule(options=NARROW, classes=["polyp"], normalization="unit").eval()
    network = ImageNetwork(network_form(dict(module.hparams)))
    network.load_state_dict(module.state_dict())
    image = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(network.eval().probabilities(image), module.probabilities(image))
    names = ("loss", "scorer", "optimization", "trainer")
    assert not any(hasattr(network, name) for name in names)


def test_a_network_is_loaded_without_losses_scores_and_lightning(tmp_path):
    module = SegmentationModule(options=NARROW)
    content = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
    torch.save(content, tmp_path / "a.ckpt")
    program = (
        "import sys\n"
        "from lightning_seg.runs.trained_network import read_network\n"
        f"print(type(read_network({str(tmp_path / 'a.ckpt')!r}).net).__name__)\n"
        "unused = ('lightning', 'torchmetrics', 'lightning_seg.training.losses')\n"
        "print([name for name in unused if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["UNet", "[]"], done.stderr


def test_a_predictor_takes_the_place_of_the_pass_in_what_is_scored():
    module = SegmentationModule(options=NARROW)
    seen = []
    module.score_by(Scoring(threshold=0.3), lambda image: torch.full((1, 1, 8, 8), 0.4))
    module.trainer = SimpleNamespace(
        state=SimpleNamespace(fn="test"), datamodule=SimpleNamespace(source=None)
    )
    module.scorer.begin(torch.device("cpu"))
    module.scorer.watch(lambda prediction, mask, index: seen.append(prediction))
    batch = {
        "image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        "mask": torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
        "index": torch.tensor([0]),
    }
    module.test_step(batch, 0)
    assert seen[0].all()


def write_folder(root, masks):
    """A folder of grey pictures: split -> masks, each a colour of the whole or None for nothing."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    rows = ["# name: drawn", "id,split"]
    for split, foregrounds in masks.items():
        for number, foreground in enumerate(foregrounds):
            picture = np.full((32, 32, 3), 60 + 10 * number, np.uint8)
            mask = np.zeros((32, 32), np.uint8)
            mask[8:20, 8:20] = 255 * foreground
            name = f"{split}{number}"
            rows.append(f"{name},{split}")
            cv2.imwrite(str(root / "images" / f"{name}.png"), picture)
            cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    (root / "drawn.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("empty", ["train", "val", ""])
def test_fit_stops_where_a_class_is_in_no_image_of_a_split(tmp_path, empty):
    splits = {"train": 4, "val": 2, "test": 2}
    masks = {split: [int(split != empty)] * count for split, count in splits.items()}
    if not empty:
        masks["train"] = [0, 0, 0, 1]
    write_folder(tmp_path / "data", masks)
    recipe = ["--data.dataset", "folder", "--data.root", str(tmp_path / "data")]
    recipe += ["--data.protocol", str(tmp_path / "data" / "drawn.csv"), "--data.size", "32"]
    recipe += ["--data.batch_size", "2", "--model.options", "{widths: [4, 8]}"]
    recipe += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    recipe += ["--runs", str(tmp_path / "runs")]
    if not empty:
        cli.run(["fit", *recipe])
        return
    with pytest.raises(InputError, match=f"no {empty} image has any .*allow_absent_classes: true"):
        cli.run(["fit", *recipe])
    done = cli.run(["fit", *recipe, "--data.allow_absent_classes", "true"])
    metrics = done.trainer.callback_metrics
    assert float(metrics["val/loss"]) > 0
    if empty == "val" and not float(metrics["val/accuracy"]) < 1:
        assert np.isnan(float(metrics["val/dice"]))
