"""Corruptions: the same picture for the same seed, id, kind and severity, worse with each severity."""

import pickle

import numpy as np
import pytest

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.augment.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    CorruptingAugmentation,
    Corruption,
    all_corruptions,
)
from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError


def picture(channels=3, size=(120, 160)):
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(30, 150, size[0]), np.linspace(0, 60, size[1]))
    rows, columns = np.indices(size) - np.array(size)[:, None, None] / 2
    disc = 60 * (np.hypot(rows, columns) < size[0] / 5)
    image = (smooth + disc)[..., None] + rng.integers(0, 6, (*size, channels))
    mask = (rng.random((*size, 1)) > 0.5).astype(np.uint8)
    return Sample(image.astype(np.uint8), mask)


def corrupted(kind, severity, id="a", seed=0, **kwargs):
    return CorruptingAugmentation(Corruption(kind, severity, seed)).change(
        picture(**kwargs), (0, 0, id)
    )


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_is_worse_and_masks_stay(kind):
    before = picture()
    changed = [corrupted(kind, severity) for severity in SEVERITIES]
    off = [np.abs(one.image.astype(float) - before.image).mean() for one in changed]
    assert off[0] > 0
    assert sorted(off) == off
    assert off[-1] > 1.3 * off[0]
    for one in changed:
        assert one.image.dtype == np.uint8
        assert one.image.shape == before.image.shape
        assert np.array_equal(one.mask, before.mask)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_grey_pictures_are_corrupted_too(kind):
    assert corrupted(kind, 3, channels=1).image.shape == (120, 160, 1)


@pytest.mark.parametrize("kind", ["noise", "motion", "highlights"])
def test_seed_and_id_decide_the_picture(kind):
    one = corrupted(kind, 4).image
    assert np.array_equal(one, corrupted(kind, 4).image)
    assert not np.array_equal(one, corrupted(kind, 4, id="b").image)
    assert not np.array_equal(one, corrupted(kind, 4, seed=1).image)


def test_a_severity_means_the_same_at_any_size():
    for kind, few in (("highlights", 0.01), ("blur", 1.0)):
        off = [
            np.abs(corrupted(kind, 5, size=size).image.astype(float) - picture(size=size).image)
            for size in ((120, 160), (240, 320))
        ]
        assert (off[0] > few).mean() == pytest.approx((off[1] > few).mean(), abs=0.08)


@pytest.mark.parametrize("size", [16, None])
def test_batch_and_workers_do_not_matter(size):
    data = SegmentationDataModule("phantom_polyp", size=size, batch_size=7, num_workers=0)
    other = SegmentationDataModule("phantom_polyp", size=size, batch_size=4, num_workers=2)
    found = []
    for one in (data, other):
        one._split = one.split.__class__(
            **vars(one.split) | {"ids": {**one.split.ids, "test": one.split.ids["test"][:9]}}
        )
        one.setup("test")
        one.corrupt(Corruption("noise", 2))
        found.append(
            {
                id: b["image"][i].numpy()
                for b in one.test_dataloader()
                for i, id in enumerate(b["id"])
            }
        )
    assert found[0].keys() == found[1].keys()
    for id, image in found[0].items():
        assert np.array_equal(image, found[1][id])
    # a picture follows from its own sample alone, in any order, and after a process is spawned
    id = data.ids("test")[5]
    stored = data._datasets["test"].store[5]
    again = pickle.loads(pickle.dumps(CorruptingAugmentation(Corruption("noise", 2))))
    assert np.array_equal(again.change(stored, (7, 3, id)).image.transpose(2, 0, 1), found[0][id])
    data.corrupt(None)
    assert np.array_equal(
        data._datasets["test"][5]["image"].numpy().transpose(1, 2, 0), stored.image
    )


def test_whole_pictures_of_a_network_of_crops_are_corrupted():
    data = SegmentationDataModule("phantom_polyp", crop=32)
    data.setup("test")
    before = data._datasets["test"][0]["picture"].sample
    data.corrupt(Corruption("darkness", 3))
    after = data._datasets["test"][0]["picture"].sample
    assert after.image.mean() < before.image.mean() - 30
    assert np.array_equal(after.mask, before.mask)


def test_bad_names_and_numbers_are_said():
    with pytest.raises(InputError, match=r"nois.*noise"):
        all_corruptions(["nois"], 0)
    with pytest.raises(InputError, match="severity is 6"):
        Corruption("noise", 6)
    with pytest.raises(InputError, match="seed of the corruptions is -1"):
        Corruption("noise", 1, -1)
    with pytest.raises(InputError, match="jpeg is of pictures of 1 or 3 channels"):
        corrupted("jpeg", 1, channels=5)
    every = all_corruptions(["all"], 3)
    assert len(every) == 5 * len(CORRUPTIONS)
    assert len({one.label for one in every}) == len(every)
