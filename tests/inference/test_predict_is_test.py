"""What `predict` writes is what `test` scored: pixel by pixel, also with augmentation, ensembles and post-processing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg import cli
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.inference.__main__ import main
from lightning_seg.training.module import SegmentationModule
from tests.inference.conftest import read

SIDE = 32
RECIPE = """
trainer: {{accelerator: cpu, enable_progress_bar: false, max_epochs: 1, log_every_n_steps: 1}}
data: {{dataset: folder, root: {root}, protocol: auto, size: {side}, batch_size: 4, dataset_options: {{classes: [polyp]}}}}
model: {{architecture: unet, options: {{widths: [4, 8]}}, lr: 0.02}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 phantoms of different sizes with their masks."""
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number in range(30):
        image, mask = render_phantom("polyp", 42, number, 80)
        cut = np.s_[: 80 - number, : 50 + number]
        Image.fromarray(image[cut]).save(root / "images" / f"p{number:02d}.png")
        Image.fromarray(mask[cut][..., 0] * 255).save(root / "masks" / f"p{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Best checkpoints of two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.format(root=data, side=SIDE))
    found = []
    for seed in ("1", "2"):
        cli.run(
            [
                "fit",
                "-c",
                str(recipe),
                "--runs",
                str(folder),
                "--name",
                f"seed{seed}",
                "--seed_everything",
                seed,
            ]
        )
        found.append(next((folder / f"seed{seed}").glob("version_0/checkpoints/best*.ckpt")))
        balance(found[-1], data)
    return found[0], found[1]


def balance(checkpoint, data):
    """Shift the logits so that half of the pixels are marked: a network of one epoch may mark none."""
    content = torch.load(checkpoint, weights_only=True)
    module = SegmentationModule.load(checkpoint)
    image = torch.from_numpy(read(data / "images" / "p00.png").transpose(2, 0, 1).copy())[None]
    *_, bias = (
        name
        for name, values in content["state_dict"].items()
        if name.endswith("bias") and len(values) == 1
    )
    with torch.inference_mode():
        content["state_dict"][bias] -= module(image).logits.median()
    torch.save(content, checkpoint)


def scored(checkpoint, *options):
    """Folder, table and facts of a test."""
    done = cli.run(
        [
            "test",
            "--ckpt_path",
            str(checkpoint),
            "--measures",
            "none",
            *options,
            "--trainer.accelerator",
            "cpu",
        ]
    )
    place = checkpoint.parent.parent / f"test-{done.datamodule.protocol_name}"
    folder = max(place.iterdir(), key=lambda path: path.stat().st_mtime)
    return (
        folder,
        ScoreTable.read(folder / "scores.csv"),
        json.loads((folder / "summary.json").read_text(encoding="utf-8")),
    )


def predicted(checkpoint, data, output, *options):
    args = [
        "--ckpt_path",
        str(checkpoint),
        "--input",
        str(data / "images"),
        "--output",
        str(output),
        "--devices",
        "cpu",
    ]
    main([*args, *options])
    return output / "masks"


def counted(masks, data, ids, size=None):
    """TP, FP, FN, TN of each id."""
    rows = []
    for id in ids:
        truth = read(data / "masks" / f"{id}.png")[..., None] // 255
        truth = (
            truth
            if size is None
            else resize_sample(Sample(np.repeat(truth, 3, 2), truth), (size, size)).mask
        )
        found, truth = read(masks / f"{id}.png") > 0, truth[..., 0] > 0
        assert found.shape == truth.shape
        rows.append(
            [
                (found & truth).sum(),
                (found & ~truth).sum(),
                (~found & truth).sum(),
                (~found & ~truth).sum(),
            ]
        )
    return np.array(rows)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--tta", "flips", "--postprocess", "fill_holes,min_area=12"],
        ["--tta", "resunet_plus_plus", "--postprocess", "crf"],
    ],
    ids=["plain", "flips", "resunet_plus_plus"],
)
@pytest.mark.parametrize("size", ["network", "native"])
def test_masks_give_the_counts_that_test_reported(runs, data, tmp_path, options, size):
    _, table, facts = scored(runs[0], "--score_at", size, *options)
    masks = predicted(runs[0], data, tmp_path / "out", "--masks_at", size, *options)
    counts = counted(masks, data, table.ids, SIDE if size == "network" else None)
    np.testing.assert_array_equal(counts, table.of("polyp"))
    assert facts["scored_at"].startswith(size)
    assert counts[:, :2].sum() > 0


def test_masks_at_the_network_size_are_those_of_predict_on_the_test_split(runs, data, tmp_path):
    main(["--ckpt_path", str(runs[0]), "--devices", "cpu", "--masks_at", "network", "--coco"])
    theirs = next((runs[0].parent.parent / "predictions").glob("best*")) / "masks"
    ours = predicted(runs[0], data, tmp_path / "out", "--masks_at", "network")
    names = [path.name for path in theirs.glob("p*.png")]
    assert len(names) == 3
    content = json.loads((theirs.parent / "coco.json").read_text(encoding="utf-8"))
    assert {f"{image['file_name']}.png" for image in content["images"]} == set(names)
    for name in names:
        np.testing.assert_array_equal(read(ours / name), read(theirs / name))


def test_an_ensemble_is_scored_as_it_is_predicted(runs, data, tmp_path):
    folder, table, facts = scored(runs[0], "--ensemble", str(runs[1]))
    masks = predicted(
        runs[0], data, tmp_path / "out", "--masks_at", "network", "--ckpt_path", str(runs[1])
    )
    np.testing.assert_array_equal(counted(masks, data, table.ids, SIDE), table.of("polyp"))
    assert facts["inference"]["ensemble"] == [str(runs[1])]
    assert folder.name.startswith("ensemble=2-")


def test_what_was_scored_stands_in_the_folder_the_summary_and_on_the_terminal(runs, capsys):
    folder, _, facts = scored(runs[0], "--tta", "flips", "--postprocess", "fill_holes, min_area=12")
    assert folder.name.startswith("tta=flips-post=fill_holes,min_area=12-best-")
    assert facts["inference"] == {
        "tta": "flips",
        "postprocess": "fill_holes,min_area=12",
        "ensemble": [],
    }
    printed = " ".join(capsys.readouterr().out.split())
    assert "test-time augmentation flips, post-processing fill_holes,min_area=12" in printed
    plain, _, facts = scored(runs[0])
    assert plain.name.startswith("best-")
    assert facts["inference"] == {"tta": "none", "postprocess": "", "ensemble": []}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tta", "flip"], "did you mean 'flips'"),
        (["--postprocess", "crff"], "did you mean 'crf'"),
        (["--ensemble", "x.ckpt"], "no checkpoint or run 'x.ckpt'"),
    ],
)
def test_a_wrong_option_of_test_is_a_sentence(runs, options, words):
    with pytest.raises(InputError, match=words):
        scored(runs[0], *options)
