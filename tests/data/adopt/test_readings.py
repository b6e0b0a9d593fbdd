"""How masks of several sorts and values are read, each as a folder of few pictures."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from layouts import HEIGHT, WIDTH, blob, photo, save

from lightning_seg.data.adopt import AdoptChoice, adopt_folder
from lightning_seg.data.adopt.machine import ENCODERS, Machine
from lightning_seg.data.adopt.names import general_name, words_of
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.inference.ensemble import Trained

LAPTOP = Machine("", 8_000_000_000, {})


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Adopts ``tmp_path / "in"`` and opens what was written: finding, data set, rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def work(machine=LAPTOP, **choice):
        output = tmp_path / "my.yaml"
        found = adopt_folder(
            tmp_path / "in", output, AdoptChoice(**{"near": False} | choice), machine
        )
        recipe = yaml.safe_load(output.read_text(encoding="utf-8"))
        rows = list(csv.DictReader(found.table.read_text(encoding="utf-8").splitlines()))
        return found.finding, SegmentationDataModule(**recipe["data"]).source, rows

    return work


def test_the_first_of_two_observers_counts_and_the_field_of_view_is_a_region(tmp_path, opened):
    view = blob(0, 31, (32, 40))
    for number in range(1, 6):
        vessels = blob(number, 9)
        save(tmp_path / "in" / "images" / f"{number:02d}_training.tif", photo(number, vessels))
        for place, mask in (("1st_manual", vessels), ("2nd_manual", blob(number, 8))):
            save(tmp_path / "in" / place / f"{number:02d}_manual{place[0]}.gif", mask)
        save(tmp_path / "in" / "mask" / f"{number:02d}_training_mask.gif", view)
    _, source, rows = opened()
    assert all("1st_manual" in row["mask"] for row in rows)
    sample = source.read("02_training")
    assert np.array_equal(sample.mask[..., 0] > 0, blob(2, 9))
    assert np.array_equal(sample.region == 2, view)
    assert np.array_equal(sample.region == 1, ~view)


def test_masks_in_folders_of_classes_are_classes_and_may_be_joined(tmp_path, opened):
    for number in range(6):
        organ, lesion = blob(number), blob(number, 4, (8, 8))
        save(tmp_path / "in" / "images" / f"{number}.png", photo(number, organ | lesion))
        save(tmp_path / "in" / "masks" / "liver" / f"{number}.png", organ)
        if number != 3:
            save(tmp_path / "in" / "masks" / "tumor" / f"{number}.png", lesion)
    finding, source, _ = opened()
    assert finding.classes == ("liver", "tumor")
    sample = source.read("1")
    assert np.array_equal(sample.mask[..., 1] > 0, blob(1, 4, (8, 8)))
    assert not source.read("3").mask[..., 1].any()
    for file in (tmp_path / "my.yaml", tmp_path / "my.csv"):
        file.unlink()
    finding, source, _ = opened(union=True)
    assert finding.classes == ("foreground",)
    assert np.array_equal(source.read("1").mask[..., 0] > 0, blob(1) | blob(1, 4, (8, 8)))


def labels(number: int) -> np.ndarray:
    """A nested mask: a ring of 1 about a disc of 2."""
    return blob(number, 14).astype(np.uint8) + blob(number, 6)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ({0: 0, 1: 1, 2: 2}, {"labels": [1, 2]}),
        ({0: 255, 1: 128, 2: 0}, {"labels": [0, 128], "background": [255]}),
        ({0: 0, 1: 255, 2: 7}, {"labels": [7], "ignore": [255]}),
    ],
)
def test_numbers_are_classes_background_and_void(tmp_path, opened, values, options):
    table = np.array([values[key] for key in sorted(values)], np.uint8)
    for number in range(6):
        save(tmp_path / "in" / "images" / f"{number}.jpg", photo(number, blob(number)))
        picture = Image.fromarray(table[labels(number)], mode="L")
        (tmp_path / "in" / "labels").mkdir(exist_ok=True)
        picture.save(tmp_path / "in" / "labels" / f"{number}.png")
    if options.get("ignore"):
        # a third value makes void of 255, which else is white
        extra = table[labels(0)].copy()
        extra[0, 0] = 3
        Image.fromarray(extra).save(tmp_path / "in" / "labels" / "0.png")
        options = options | {"labels": [3, 7]}
    finding, source, _ = opened()
    assert {key: finding.options[key] for key in options} == options
    assert source.read("1").mask.any()


def test_sixteen_bits_and_five_channels_are_read_by_percentiles_also_in_predict(tmp_path, opened):
    import tifffile

    for number in range(5):
        planes = [photo(number + 10 * k, blob(number), 1) for k in range(5)]
        file = tmp_path / "in" / "images" / f"{number}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(file, np.stack(planes).astype(np.uint16) * 100)
        save(tmp_path / "in" / "masks" / f"{number}.png", blob(number))
    finding, source, rows = opened()
    assert finding.options == {"in_channels": 5, "window": "percentiles"}
    image = source.read("1").image
    assert image.shape == (HEIGHT, WIDTH, 5)
    assert (image.min(), image.max()) == (0, 255)
    trained = Trained(("x",), 5, 64, "folder", finding.options)
    path = next(Path(row["image"]) for row in rows if row["id"] == "1")
    assert np.array_equal(trained.picture.read_checked(tmp_path / path), image)


def test_fine_structures_are_cropped_and_weights_at_hand_are_used(tmp_path, opened):
    rng = np.random.default_rng(0)
    for number in range(6):
        mask = np.zeros((300, 300 + number), bool)
        mask[:, 10 * number :: 60] = True
        mask[:, 1 + 10 * number :: 60] = True
        noise = rng.integers(0, 200, (*mask.shape, 3)).astype(np.uint8)
        save(tmp_path / "in" / "images" / f"{number}.png", noise + np.uint8(50) * mask[..., None])
        save(tmp_path / "in" / "masks" / f"{number}.png", mask)
    opened(Machine("", 8_000_000_000, {"mobilenetv2_100": "here"}))
    recipe = yaml.safe_load((tmp_path / "my.yaml").read_text())
    assert recipe["data"]["crop"] == 256
    assert "encoder" not in recipe["model"]


def test_pictures_of_one_view_are_a_group(tmp_path, opened):
    rng = np.random.default_rng(0)
    for number in range(8):
        # scenes of large shapes, each seen twice in another light
        scene = np.kron(
            np.random.default_rng(number // 2).integers(0, 180, (8, 10)), np.ones((8, 8))
        )
        light = scene + 20 * (number % 2) + rng.integers(0, 8, scene.shape)
        save(tmp_path / "in" / "images" / f"{number}.png", light.astype(np.uint8))
        save(tmp_path / "in" / "masks" / f"{number}.png", blob(number))
    finding, _, rows = opened(near=True)
    groups = [row["group"] for row in rows]
    assert all(groups[number] == groups[number + 1] for number in range(0, 8, 2))
    assert len(set(groups)) == 4
    assert "same view" in finding.division.groups_from


def test_the_hub_is_asked_for_what_timm_would_ask():
    import timm

    for name, repository in ENCODERS.items():
        assert timm.get_pretrained_cfg(name).hf_hub_id == repository


def test_words_of_names():
    assert words_of("leftMask_01") == ("left", "mask", "01")
    assert words_of("ISIC_0000000_segmentation") == ("isic", "0000000", "segmentation")
    assert general_name("00ae65c1c6631ae6f2be1a449902976e6eb8483bf6b0740d00530220832c6d3e") == "*"
    assert general_name("patient12") == "patient#"
