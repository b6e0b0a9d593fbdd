"""Crops of pictures of any sizes: where they lie, what they hold, where they are kept."""

import tracemalloc

import numpy as np
import pytest

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.crops import CropDataset, Crops, WholeDataset
from lightning_seg.data.dataset import EpochSampler, SegmentationDataset
from lightning_seg.data.sampling import sampling_weights
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.cache import Cache
from lightning_seg.data.store.windows import window_store
from lightning_seg.errors import InputError


class Pictures:
    """Pictures whose pixels tell their place; the second class is one pixel."""

    classes, in_channels = ("large", "point"), 2
    sizes = ((60, 80), (200, 30), (16, 16), (90, 90))

    def __init__(self, folder=None):
        self.ids = [f"p{k}" for k in range(len(self.sizes))]
        self.groups = {id: id for id in self.ids}
        self.reads = 0
        if folder is not None:
            self.files = lambda id: (folder / f"{id}.png",)

    def read(self, id):
        self.reads += 1
        height, width = self.sizes[self.ids.index(id)]
        rows, columns = np.mgrid[:height, :width]
        mask = np.zeros((height, width, 2), np.uint8)
        mask[: height // 2, :, 0] = 1
        if id != "p3":
            mask[height - 1, width - 1, 1] = 1
        return Sample(np.stack([rows, columns], 2).astype(np.uint8), mask)


def crops_of(source, side=32, foreground=0.5, seed=0, **more):
    return CropDataset(source, source.ids, Crops(side, foreground), seed, **more)


def test_a_store_on_disk_holds_the_pictures_and_is_found_again(tmp_path):
    source = Pictures(tmp_path)
    cache = Cache({}, tmp_path / "cache")
    kept = window_store(source, source.ids, cache)
    assert source.reads == len(source.ids)
    again = window_store(source, source.ids, cache)
    assert source.reads == len(source.ids)
    for store in (kept, again):
        for place, id in enumerate(source.ids):
            for found, expected in zip(store[place], source.read(id), strict=True):
                np.testing.assert_array_equal(found, expected)
        assert [list(store.present(k)) for k in (0, 3)] == [[True, True], [True, False]]
    np.testing.assert_array_equal(kept.foreground, again.foreground)
    assert kept.contents == again.contents


def test_a_damaged_store_is_built_anew(tmp_path):
    source, cache = Pictures(tmp_path), Cache({}, tmp_path / "cache")
    window_store(source, source.ids, cache)
    [file] = (tmp_path / "cache").glob("*/images.bin")
    file.write_bytes(file.read_bytes()[:-7])
    found = window_store(source, source.ids, cache)
    np.testing.assert_array_equal(found[3].image, source.read("p3").image)


def test_crops_are_cut_from_their_picture_and_follow_from_seed_epoch_and_id():
    source = Pictures()
    data, same, other = crops_of(source), crops_of(source), crops_of(source, seed=1)
    corners = set()
    for epoch in range(8):
        item, again = data[epoch, 0], same[epoch, 0]
        image = item["image"].numpy()
        assert image.shape == (2, 32, 32)
        top, left = image[:, 0, 0]
        expected = source.read("p0")
        np.testing.assert_array_equal(
            image.transpose(1, 2, 0), expected.image[top : top + 32, left : left + 32]
        )
        mask = expected.mask[top : top + 32, left : left + 32]
        np.testing.assert_array_equal(item["mask"].numpy().transpose(1, 2, 0), mask)
        assert (image == again["image"].numpy()).all()
        corners.add((int(top), int(left)))
    assert len(corners) > 4
    assert any((data[k, 0]["image"] != other[k, 0]["image"]).any() for k in range(3))


def test_of_a_picture_smaller_than_a_crop_only_itself_counts():
    item = crops_of(Pictures())[0, 2]
    assert item["image"].shape == (2, 32, 32)
    assert int((item["region"] > 0).sum()) == 16 * 16


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_crops_that_hold_foreground_draws_each_class_alike(share):
    data = crops_of(Pictures(), 20, share)
    points = [bool(data[epoch, 0]["mask"][1].any()) for epoch in range(120)]
    shown = [bool(data[epoch, 0]["mask"].any()) for epoch in range(120)]
    if share == 1:
        assert all(shown)
        assert 0.35 < np.mean(points) < 0.65
    else:
        # one corner of 41 x 61 holds the only pixel of the second class
        assert np.mean(points) < 0.05


def test_whole_pictures_are_given_unread():
    data = WholeDataset(Pictures(), ["p1", "p3"], None, None)
    item = data[1]
    assert item["picture"].shape == (90, 90)
    assert item["id"] == "p3"
    assert data.absent(["large", "point"]) == []
    assert WholeDataset(Pictures(), ["p3"], None, None).absent(["large", "point"]) == ["point"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": 8}, "from 16"),
        ({"crop": 64, "size": 128}, "leave one of them out"),
        ({"crop": 64, "crop_foreground": 1.5}, "share from 0 to 1"),
        ({"crop": 64, "crop_overlap": 1.0}, "below 1"),
    ],
)
def test_bad_crops_are_one_sentence(options, words):
    with pytest.raises(InputError, match=words):
        SegmentationDataModule("phantom_polyp", **options)


def test_augmentation_on_the_device_takes_crops():
    options = {"crop": 64, "batch_size": 4, "num_workers": 0, "dataset_options": {"count": 400}}
    data = SegmentationDataModule("phantom_polyp", augment_on="device", **options)
    data.ids = lambda split: data.split.ids[split][:4]
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["draw"].shape[0] == 4
    changed = data.on_after_batch_transfer(batch, 0)
    assert changed["image"].shape == (4, 3, 64, 64)
    assert "draw" not in changed


class Sexes:
    """12 pictures; one has foreground, a third is of one patient, three are of women."""

    classes, in_channels = ("point",), 1
    ids = [f"p{k:02d}" for k in range(12)]  # noqa: RUF012
    groups = {id: "one" if k < 4 else id for k, id in enumerate(ids)}  # noqa: RUF012
    columns = {id: {"sex": "f" if k < 3 else "m"} for k, id in enumerate(ids)}  # noqa: RUF012

    def read(self, id):
        mask = np.full((8, 8, 1), id == "p05", np.uint8)
        return Sample(np.zeros((8, 8, 1), np.uint8), mask)


@pytest.mark.parametrize(
    ("kind", "first", "share"),
    [("foreground", [5], 1 / 2), ("groups", [0, 1, 2, 3], 1 / 9), ("sex", [0, 1, 2], 1 / 2)],
)
def test_sampling_visits_strata_evenly(kind, first, share):
    source = Sexes()
    data = SegmentationDataset(source, source.ids, None, None, copies=50)
    weights = sampling_weights(kind, data, source)
    sampler = EpochSampler(data, 1, 0, 7, False, weights=weights)
    drawn = [index for _, index in sampler]
    assert len(drawn) == len(data)
    found = np.isin(np.array(drawn) % 12, first).mean()
    assert found == pytest.approx(share, abs=0.08)
    assert drawn == [index for _, index in sampler]
    sampler.set_epoch(1)
    assert drawn != [index for _, index in sampler]


def test_an_unknown_sampling_names_the_columns():
    source = Sexes()
    data = SegmentationDataset(source, source.ids, None, None)
    with pytest.raises(InputError, match=r"foreground, groups.*sex"):
        sampling_weights("centre", data, source)


class Large:
    """One picture of a given height."""

    classes, in_channels = ("point",), 3
    ids = ["p"]  # noqa: RUF012
    groups = {"p": "p"}  # noqa: RUF012

    def __init__(self, folder, side):
        self.side, self.files = side, lambda id: (folder / "p.png",)

    def read(self, id):
        mask = np.zeros((self.side, self.side, 1), np.uint8)
        mask[:50, :50] = 1
        return Sample(np.zeros((self.side, self.side, 3), np.uint8), mask)


def test_memory_of_training_does_not_depend_on_the_size_of_a_picture(tmp_path):
    peaks = []
    for side in (200, 2000):
        cache = Cache({"side": side}, tmp_path / "cache")
        data = CropDataset(Large(tmp_path, side), ["p"], Crops(128), 0, cache=cache)
        tracemalloc.start()
        for epoch in range(5):
            assert data[epoch, 0]["image"].shape == (3, 128, 128)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # a whole picture would take 16 MB
    assert peaks[1] < peaks[0] + 200_000
