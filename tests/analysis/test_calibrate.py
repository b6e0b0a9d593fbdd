"""`lightning-seg calibrate`: the scaling is found where it is known, and everything that uses the checkpoint follows it."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from scipy.special import expit

import lightning_seg as ls
from lightning_seg.analysis.calibrate import PIXELS, sample_pixels
from lightning_seg.analysis.calibrate import main as calibrate
from lightning_seg.cli import main as cli
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import Summary
from lightning_seg.evaluation.temperature import PixelSample, fit_scaling
from lightning_seg.export.__main__ import main as export
from lightning_seg.inference.look_first import uncalibrated_words
from lightning_seg.inference.split import DataSplit, open_split
from lightning_seg.runs import find_run
from lightning_seg.runs.trained_network import read_network

RECIPE = """
seed_everything: 1
name: tiny
trainer: {accelerator: cpu, enable_progress_bar: false, max_epochs: 2, logger: false}
data: {dataset: phantom_polyp, size: 32, num_workers: 0, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8]}, lr: 0.01}
"""


def drawn(logits, scale, shift, seed=0):
    """Truth of which the probabilities are those of scaled and shifted logits."""
    rng = np.random.default_rng(seed)
    truth = rng.random(logits.shape) < expit(logits * scale + shift)
    return PixelSample(torch.tensor(logits).float(), torch.tensor(truth).float())


def test_the_scaling_that_made_the_truth_is_found():
    logits = np.random.default_rng(1).normal(0, 3, (200_000, 2))
    sample = drawn(logits, np.array([0.4, 1.5]), np.array([0.5, -1.0]))
    scale, shift = fit_scaling(sample, "vector")
    assert scale.tolist() == pytest.approx([0.4, 1.5], rel=0.03)
    assert shift.tolist() == pytest.approx([0.5, -1.0], abs=0.03)
    after = sample.scaled(scale.float(), shift.float())
    assert max(after.expected_errors()) < 0.005 < min(sample.expected_errors())


def test_temperature_moves_no_mask():
    logits = np.random.default_rng(1).normal(0, 3, (100_000, 1))
    sample = drawn(logits, 0.4, 0.0)
    scale, shift = fit_scaling(sample)
    assert (scale.item(), shift.item()) == (pytest.approx(0.4, rel=0.03), 0)
    after = sample.scaled(scale.float(), shift.float())
    assert torch.equal(after.probability > 0.5, sample.probability > 0.5)


def test_exclusive_classes_share_one_temperature():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(0, 3, (100_000, 4))).float()
    cumulated = (logits * 0.3).softmax(1).cumsum(1).numpy()
    labels = (rng.random((100_000, 1)) > cumulated).sum(1)
    truth = torch.tensor(np.eye(4)[labels][:, 1:]).float()
    scale, shift = fit_scaling(PixelSample(logits, truth, exclusive=True))
    assert scale.tolist() == pytest.approx([0.3] * 4, rel=0.03)
    assert shift.abs().max() == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "tiny.yaml").write_text(RECIPE)
        cli(["fit", "-c", "tiny.yaml"])
        cli(["test", "--ckpt_path", "best", "--name", "tiny"])
        calibrate(["--ckpt_path", "best", "--name", "tiny", "--method", "vector"])
        cli(["test", "--ckpt_path", "best", "--name", "tiny-calibrated"])
        yield folder


def test_the_calibrated_checkpoint_is_a_run_of_its_own(runs):
    before, after = (find_run(name) for name in ("tiny", "tiny-calibrated"))
    assert after.best.path.name == before.best.path.name
    kept = yaml.safe_load(after.config_file.read_text())["model"]["calibration"]
    scores = [Summary.read(*run.score_folders("test")) for run in (before, after)]
    briers = [found.measures["polyp"]["brier"].value for found in scores]
    assert briers[1] < briers[0]
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    plain, scaled = (ls.load(run.best.path).predict(image).probability for run in (before, after))
    logits = np.log(plain) - np.log1p(-plain)
    expected = expit(logits * kept["scale"][0] + kept["shift"][0])
    assert scaled == pytest.approx(expected, abs=1e-5)


def test_a_calibration_that_dies_while_it_writes_can_be_given_again(runs, monkeypatch):
    shutil.copytree(runs / "runs" / "tiny", runs / "runs" / "dies")
    monkeypatch.chdir(runs)
    again = ["--ckpt_path", "best", "--name", "dies"]
    with monkeypatch.context() as patch:
        patch.setattr("lightning_seg.analysis.calibrate.write_whole", die)
        with pytest.raises(KeyboardInterrupt):
            calibrate(again)
    calibrate(again)
    run = find_run("dies-calibrated")
    assert run.best.path.is_file()
    assert yaml.safe_load(run.config_file.read_text())["model"]["calibration"]


def die(*_):
    raise KeyboardInterrupt


def test_a_calibrated_network_is_neither_trained_nor_calibrated_again(runs, capsys):
    place = find_run("tiny-calibrated").best.path
    with pytest.raises(InputError, match="calibrated already"):
        calibrate(["--ckpt_path", str(place), "--output", "again.ckpt"])
    with pytest.raises(SystemExit):
        cli(["fit", "--ckpt_path", str(place), "--trainer.max_epochs", "4"])
    assert "calibrated after its training" in capsys.readouterr().err
    with pytest.raises(InputError, match="exists"):
        calibrate(["--ckpt_path", "best", "--name", "tiny"])


@pytest.mark.slow
def test_exports_give_the_calibrated_probabilities_of_predict(runs, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    transformers = pytest.importorskip("transformers")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    plain, scaled = (find_run(name).best.path for name in ("tiny", "tiny-calibrated"))
    before, expected = (ls.load(file).predict(image).probability for file in (plain, scaled))
    assert np.abs(before - expected).max() > 0.01
    export(["onnx", "--ckpt_path", str(scaled), "--output", str(tmp_path / "m.onnx")])
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    [logits] = session.run(None, {"image": image.transpose(2, 0, 1)[None].astype("f4") / 255})
    assert expit(logits[0]) == pytest.approx(expected, abs=1e-5)
    export(["hf", "--ckpt_path", str(scaled), "--output", str(tmp_path / "hf")])
    given = str(tmp_path / "hf")
    model = transformers.AutoModel.from_pretrained(given, trust_remote_code=True).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(given, trust_remote_code=True)
    with torch.no_grad():
        found = model(**processor(image, return_tensors="pt")).logits
    assert found.sigmoid()[0].numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_network_of_crops_is_calibrated_by_its_windows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    crops = RECIPE.replace("size: 32", "crop: 32").replace("resolution: 32", "resolution: 48")
    (tmp_path / "crops.yaml").write_text(crops.replace("name: tiny", "name: crops"))
    cli(["fit", "-c", "crops.yaml"])
    calibrate(["--ckpt_path", "best", "--name", "crops", "--method", "vector"])
    before, after = (find_run(name) for name in ("crops", "crops-calibrated"))
    kept = yaml.safe_load(after.config_file.read_text())["model"]["calibration"]
    networks = [ls.load(run.best.path) for run in (before, after)]
    # a picture of one window: what predict gives is what was fitted
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    plain, scaled = (network.predict(image).probability for network in networks)
    logits = np.log(plain) - np.log1p(-plain)
    assert scaled == pytest.approx(expit(logits * kept["scale"][0] + kept["shift"][0]), abs=1e-5)
    # and on pictures of several windows the validation split is fitted better
    for run in (before, after):
        cli(["validate", "--ckpt_path", str(run.best.path)])
    briers = [
        Summary.read(*run.score_folders("val")).measures["polyp"]["brier"].value
        for run in (before, after)
    ]
    assert briers[1] < briers[0]
    data = open_split(before.best.path, "val", {}).data
    network = read_network(before.best.path)
    first, second = (sample_pixels(network, data).logits for _ in range(2))
    assert torch.equal(first, second)
    assert len(first) <= PIXELS * len(data.ids("val"))


@pytest.mark.parametrize(("images", "advised"), [(9, False), (10, True), (None, True)])
def test_it_is_advised_where_the_validation_images_may_suffice(images, advised):
    digests = [str(number) for number in range(images or 0)]
    facts = {"images": {"train": ["t"], "val": digests}} if images is not None else {}
    said = uncalibrated_words([{"lightning_seg": facts}])
    assert said.startswith("of a network that is not calibrated")
    assert ("lightning-seg calibrate" in said) == advised


def test_too_few_validation_images_are_refused_before_any_is_read(runs, monkeypatch):
    options = {"count": 50, "resolution": 32}
    data = SegmentationDataModule("phantom_polyp", protocol="auto-1", dataset_options=options)
    few = DataSplit(data, "val")
    monkeypatch.setattr("lightning_seg.analysis.calibrate.open_split", lambda *args: few)
    monkeypatch.setattr("lightning_seg.analysis.calibrate.read_network", None)
    with pytest.raises(InputError, match="holds 5 images; a calibration needs 10 or more"):
        calibrate(["--ckpt_path", "best", "--name", "tiny", "--output", "few.ckpt"])
