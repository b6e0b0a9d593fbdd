"""What TensorBoard shows of a run, read back from its files."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from lightning_seg import cli
from lightning_seg.callbacks.tensorboard import _add_image, _is_best_so_far
from lightning_seg.data.show import COLOURS
from lightning_seg.data.sources.phantom_polyp import PhantomPolyp
from lightning_seg.inference.pictures import GAP, LEGEND_HEIGHT, LEGEND_WIDTH, TITLE, overlay
from lightning_seg.reports import Table

RECIPE = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
        "max_epochs": 2,
    },
    "data": {
        "dataset": "phantom_polyp",
        "protocol": None,
        "size": 32,
        "batch_size": 4,
        "dataset_options": {"resolution": 32},
    },
    "model": {"architecture": "unet", "options": {"widths": [4, 8]}, "lr": 0.01},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of two epochs, tested."""
    folder = tmp_path_factory.mktemp("runs")
    rows = [f"polyp-{i:04d},{'train' if i < 8 else 'val' if i < 12 else 'test'}" for i in range(17)]
    (folder / "tiny.csv").write_text(
        "# name: tiny\n# version: 1\n# rule: the first 17\nid,split\n" + "\n".join(rows) + "\n"
    )
    recipe = RECIPE | {
        "data": RECIPE["data"] | {"protocol": str(folder / "tiny.csv")},
        "runs": str(folder),
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    cli.run(["fit", "-c", str(folder / "tiny.yaml")])
    cli.run(["test", "-c", str(folder / "tiny.yaml"), "--ckpt_path", "best"])
    return folder / "tiny" / "version_0"


@pytest.fixture(scope="module")
def events(run):
    return EventAccumulator(str(run), size_guidance={"tensors": 0, "images": 0}).Reload()


def test_the_overlays_are_the_image_and_its_truth_to_the_noise_of_jpeg(events):
    content = events.Images("val/overlays")[-1].encoded_image_string
    assert content.startswith(b"\xff\xd8")
    encoded = np.frombuffer(content, np.uint8)
    sheet = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    legend = sheet[-LEGEND_HEIGHT:]
    assert (abs(legend - COLOURS[0]).max(-1) < 60).any()
    assert (legend > 200).all(-1).any()
    sheet = sheet[:-LEGEND_HEIGHT]
    factor = sheet.shape[1] // (3 * (32 + 2 * GAP))
    assert sheet.shape[1] >= LEGEND_WIDTH
    sheet = sheet[factor // 2 :: factor, factor // 2 :: factor]
    source = PhantomPolyp(resolution=32)
    height, width = 32 + TITLE + GAP, 32 + 2 * GAP
    for row in range(4):
        top = row * height + TITLE
        image, truth = source.read(f"polyp-{8 + row:04d}")[:2]
        drawn = overlay(*(torch.from_numpy(each.transpose(2, 0, 1)) for each in (image, truth)))
        for place, expected in enumerate((image, drawn)):
            left = place * width + GAP
            found = sheet[top : top + 32, left : left + 32]
            assert abs(found - expected).mean() < 8  # phantoms are noise
            if truth.any():
                wrong = image if expected is drawn else drawn
                assert abs(found - expected).mean() < abs(found - wrong).mean()


def test_overlays_stand_at_validations_that_were_the_best_so_far(run, events):
    scores = [event.value for event in events.Scalars("val/dice")]
    steps = [event.step for event in events.Scalars("val/dice")]
    best = [all(score > one for one in scores[:place]) for place, score in enumerate(scores)]
    shown = [event.step for event in events.Images("val/overlays")]
    assert len(shown) == sum(best)
    assert [step + 1 for step, is_best in zip(steps, best, strict=True) if is_best] == shown


@pytest.mark.parametrize(
    ("mode", "value", "shown"),
    [("max", 0.5, False), ("max", 0.6, True), ("min", 0.6, False), ("min", 0.4, True)],
)
def test_a_validation_is_the_best_so_far_by_the_mode_of_the_monitor(mode, value, shown):
    best = SimpleNamespace(
        monitor="val/x", mode=mode, best_model_score=torch.tensor(0.5), role="best"
    )
    others = [SimpleNamespace(), SimpleNamespace(monitor="val/loss")]  # that a recipe may have
    trainer = SimpleNamespace(
        checkpoint_callbacks=[*others, best], callback_metrics={"val/x": torch.tensor(value)}
    )
    assert _is_best_so_far(trainer) == shown
    best.best_model_score = None
    assert _is_best_so_far(trainer)


def text(events, tag):
    return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()


def test_the_recipe_stands_there_without_what_is_left_to_defaults(events):
    lines = text(events, "run/recipe").strip("`").removeprefix("yaml\n")
    config = yaml.safe_load(lines)
    assert config["model"]["options"] == {"widths": [4, 8]}
    assert config["trainer"]["max_epochs"] == 2
    assert "null" not in lines


def test_the_data_are_named_with_protocol_digest_and_that_they_are_synthetic(run, events):
    facts = json.loads(next(run.glob("test-*/*/summary.json")).read_text(encoding="utf-8"))
    lines = text(events, "run/data")
    for words in (
        "phantom_polyp (SYNTHETIC)",
        "| tiny |",
        facts["protocol_digest"],
        "train 8, val 4, test 5",
    ):
        assert words in lines


def test_the_scores_of_the_test_are_a_table_that_names_its_conventions(run, events):
    facts = json.loads(next(run.glob("test-*/*/summary.json")).read_text(encoding="utf-8"))
    lines = text(events, "test/scores")
    dice = facts["scores"]["polyp"]["dice"]
    assert lines.startswith("**SYNTHETIC")
    assert "| class | score | mean over images | 95 % | pooled over pixels | 95 % |" in lines
    row = next(line for line in lines.splitlines() if line.startswith("| polyp | dice |")).split(
        " | "
    )
    assert [row[2], row[4]] == [f"{dice['image']['value']:.4f}", f"{dice['pooled']['value']:.4f}"]
    assert "dice (two_class)" in lines


def test_each_validation_and_the_test_have_pictures_of_their_probabilities(events):
    images = events.Tags()["images"]
    assert {"val/overlays", "val/reliability_polyp", "test/reliability_polyp"} <= set(images)
    assert len(events.Images("val/reliability_polyp")) == len(events.Tensors("val/pr_polyp")) == 2
    assert len(events.Tensors("test/pr_polyp")) == 1


def test_the_hyper_parameters_come_with_the_best_validation_score_and_the_test_of_the_run(
    run, events
):
    content = events.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    named = {info.name.tag for info in experiment.metric_infos}
    assert named == {"best/val/dice", "test/dice", "test/dice_image", "test/iou", "test/iou_image"}
    assert named <= set(events.Tags()["scalars"])
    facts = json.loads(next(run.glob("test-*/*/summary.json")).read_text(encoding="utf-8"))
    logged = events.Scalars("test/dice_image")[-1].value
    assert logged == pytest.approx(facts["scores"]["polyp"]["dice"]["image"]["value"])
    varied = {info.name for info in experiment.hparam_infos if info.differs}
    assert {"lr", "options", "size", "batch_size"} <= varied
    assert not {"weight_decay", "schedule", "num_workers"} & varied
    content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    started = metadata.parse_session_start_info_plugin_data(content).hparams
    assert started["lr"].number_value == 0.01
    assert started["seed"].number_value == 42
    assert json.loads(started["options"].string_value) == {"widths": [4, 8]}


def test_no_test_score_can_be_monitored_though_all_are_shown(run, tmp_path):
    with pytest.raises(ValueError, match="the test set is sealed"):
        cli.run(
            [
                "fit",
                "-c",
                str(run / "config.yaml"),
                "--checkpoint.monitor",
                "test/dice",
                "--runs",
                str(tmp_path),
            ]
        )


def test_a_bar_in_a_cell_does_not_split_a_markdown_table():
    assert Table(("a", "b"), [("x|y", 1)]).markdown().splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| x\\|y | 1 |",
    ]


def test_the_layout_shows_scores_first(events):
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert layout.index(b"val/dice") < layout.index(b"train/loss")


def test_a_validation_adds_no_point_to_the_curves(run):
    def points(name):
        return [each.step for each in EventAccumulator(str(run)).Reload().Scalars(name)]

    before = points("val/dice")
    cli.run(["validate", "--ckpt_path", str(run), "--trainer.accelerator", "cpu"])
    assert points("val/dice") == before
    assert list(run.glob("val-*/*/scores.csv"))


def test_other_loggers_are_given_the_same_images(monkeypatch):
    shown = []

    class Wandb(WandbLogger):
        def __init__(self):
            pass

        def log_image(self, key, images, step=None, **_):
            shown.append(("wandb", key, images[0].shape, step))

    class MLFlow(MLFlowLogger):
        def __init__(self):
            pass

        run_id = "7"

        @property
        def experiment(self):
            def log_image(run_id, image, artifact_file):
                shown.append((run_id, artifact_file, image.shape))

            return SimpleNamespace(log_image=log_image)

    image = np.zeros((4, 6, 3), np.uint8)
    _add_image(SimpleNamespace(loggers=[Wandb(), MLFlow()]), "val/overlays", image, 12)
    expected = [("wandb", "val/overlays", (4, 6, 3), 12)]
    assert shown == [*expected, ("7", "val/overlays-000012.png", (4, 6, 3))]
