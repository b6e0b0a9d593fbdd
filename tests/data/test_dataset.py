"""The data set in memory, its copies and keys, and the sampler."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lightning_seg.data.augment.pipeline import PRESETS, Augmentation
from lightning_seg.data.dataset import EpochSampler, SegmentationDataset, collate
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError

MakeSource = Callable[..., Any]
AUGMENTATION = Augmentation(PRESETS["unet_a"], 7)


class Numbers(torch.utils.data.Dataset[int]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return torch.equal(one["image"], other["image"]) and torch.equal(one["mask"], other["mask"])


def test_an_item_holds_the_sample_channels_first(make_source: MakeSource) -> None:
    source = make_source()
    data = SegmentationDataset(source, ["s03", "s01"], None, None)
    item = data[1]
    sample = source.read("s01")
    assert (item["id"], item["index"]) == ("s01", 1)
    assert item["image"].dtype == item["mask"].dtype == torch.uint8
    assert np.array_equal(item["image"].permute(1, 2, 0), sample.image)
    assert np.array_equal(item["mask"].permute(1, 2, 0), sample.mask)


def test_only_the_given_ids_are_read_and_each_once(make_source: MakeSource) -> None:
    source = make_source()
    data = SegmentationDataset(source, ["s03", "s01"], (16, 16), AUGMENTATION, copies=3)
    assert source.opened == {"s01", "s03"}
    source.read = None
    assert [data[index]["id"] for index in range(len(data))] == ["s03", "s01"] * 3


def test_changing_an_item_leaves_the_store_as_it_was(make_source: MakeSource) -> None:
    data = SegmentationDataset(make_source(), ["s00"], None, None)
    before = data.store[0].image.copy()
    data[0]["image"].zero_()
    assert np.array_equal(data.store[0].image, before)


@pytest.mark.parametrize("size", [(16, 24), (64, 48), (32, 32)])
def test_images_and_masks_are_resized_to_height_and_width(
    make_source: MakeSource, size: tuple[int, int]
) -> None:
    item = SegmentationDataset(make_source(), ["s00"], size, None)[0]
    assert item["image"].shape == (3, *size)
    assert item["mask"].shape == (2, *size)
    assert set(item["mask"].unique().tolist()) <= {0, 1}


def test_shrinking_averages_the_image_and_keeps_the_mask_in_place() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    mask = np.zeros((8, 8, 1), np.uint8)
    mask[2:6, 4:] = 1
    small, tiny = (
        resize_sample(Sample(image, mask), (4, 4)),
        resize_sample(Sample(image**2, mask), (2, 2)),
    )
    assert np.array_equal(small.mask[..., 0], mask[::2, ::2, 0])
    assert np.allclose(small.image[..., 0], image.reshape(4, 2, 4, 2).mean(axis=(1, 3)), atol=0.5)
    assert np.allclose(
        tiny.image[..., 0], (image**2).reshape(2, 4, 2, 4).mean(axis=(1, 3)), atol=0.5
    )


def test_a_resized_mask_is_not_shifted_against_its_image() -> None:
    """The centroid stays at the same fraction of the frame, also for factors that are no whole numbers."""
    image = np.zeros((530, 622, 3), np.uint8)
    cv2.circle(image, (200, 300), 100, (255, 255, 255), -1)
    small = resize_sample(Sample(image, image[..., :1] // 255), (256, 256))
    centres = [
        np.argwhere(part > 0.5).mean(axis=0)
        for part in (small.image[..., 0] / 255, small.mask[..., 0])
    ]
    assert np.allclose(*centres, atol=0.15)


def test_without_a_size_different_shapes_are_refused(make_source: MakeSource) -> None:
    source = make_source()
    read = source.read
    source.read = lambda id: resize_sample(read(id), (20, 20)) if id == "s02" else read(id)
    with pytest.raises(InputError, match=r"sample 's02' has the shape \(20, 20, 3\).*give a size"):
        SegmentationDataset(source, ["s00", "s01", "s02"], None, None)


def test_an_error_in_reading_comes_through(make_source: MakeSource) -> None:
    source = make_source()

    def broken(id: str) -> Sample:
        raise InputError(f"{id} is damaged")

    source.read = broken
    with pytest.raises(InputError, match="s00 is damaged"):
        SegmentationDataset(source, ["s00", "s01"], None, None)


def test_no_ids_and_no_copies_are_refused(make_source: MakeSource) -> None:
    with pytest.raises(InputError, match="at least one id"):
        SegmentationDataset(make_source(), [], None, None)
    with pytest.raises(InputError, match="copies is 0"):
        SegmentationDataset(make_source(), ["s00"], None, None, copies=0)


def test_an_item_beyond_the_end_is_an_index_error(make_source: MakeSource) -> None:
    data = SegmentationDataset(make_source(), ["s00", "s01"], None, None, copies=2)
    assert data[-1]["id"] == "s01"
    with pytest.raises(IndexError):
        data[4]


def test_offline_copies_are_the_original_and_fixed_variants(make_source: MakeSource) -> None:
    ids = ["s00", "s01", "s02"]
    plain = SegmentationDataset(make_source(), ids, None, None)
    data = SegmentationDataset(make_source(), ids, None, AUGMENTATION, copies=6, online=False)
    assert len(data) == 18
    for epoch in (0, 4):
        assert all(same(data[epoch, index], plain[index]) for index in range(3))
    assert all(same(data[0, item], data[9, item]) for item in range(18))
    assert len({data[item]["image"].numpy().tobytes() for item in range(18)}) == 18
    assert [data[item]["index"] for item in range(18)] == [0, 1, 2] * 6


def test_online_items_differ_between_epochs_copies_and_samples(make_source: MakeSource) -> None:
    data = SegmentationDataset(make_source(), ["s00", "s01"], None, AUGMENTATION, copies=2)
    keys = [(epoch, item) for epoch in range(3) for item in range(4)]
    assert len({data[key]["image"].numpy().tobytes() for key in keys}) == len(keys)
    assert all(same(data[key], data[key]) for key in keys)
    assert same(data[3], data[0, 3])


def test_an_item_depends_on_its_id_and_not_on_its_position(make_source: MakeSource) -> None:
    one = SegmentationDataset(make_source(), ["s00", "s01"], None, AUGMENTATION)
    other = SegmentationDataset(make_source(), ["s01", "s05", "s00"], None, AUGMENTATION)
    assert same(one[2, 1], other[2, 0])


def batches(
    data: SegmentationDataset, workers: int, world: int = 1, rank: int = 0, **options: Any
) -> list[dict[str, Any]]:
    """Two epochs, through a loader that lives on between them."""
    sampler = EpochSampler(data, world, rank, seed=3, drop_last=True)
    options |= {"num_workers": workers, "persistent_workers": workers > 0}
    loader = DataLoader(
        data, 4 // world, sampler=sampler, drop_last=True, collate_fn=collate, **options
    )
    found = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        found += list(loader)
    return found


def test_the_number_of_workers_and_what_they_prefetch_change_no_pixel(
    make_source: MakeSource,
) -> None:
    data = SegmentationDataset(
        make_source(), [f"s{index:02d}" for index in range(10)], None, AUGMENTATION
    )
    alone = batches(data, 0)
    assert len(alone) == 4
    for workers, prefetched in ((1, 1), (2, 3)):
        others = batches(data, workers, prefetch_factor=prefetched)
        assert all(
            same(*pair) and pair[0]["id"] == pair[1]["id"]
            for pair in zip(alone, others, strict=True)
        )


@pytest.mark.parametrize("world", [2, 4])
def test_the_number_of_ranks_changes_no_pixel(make_source: MakeSource, world: int) -> None:
    data = SegmentationDataset(
        make_source(), [f"s{index:02d}" for index in range(10)], None, AUGMENTATION
    )
    alone = batches(data, 0)
    ranks = [batches(data, 0, world, rank) for rank in range(world)]
    for whole, *parts in zip(alone, *ranks, strict=True):
        pictures = dict(zip(whole["id"], whole["image"], strict=True))
        found = {
            id: image for part in parts for id, image in zip(part["id"], part["image"], strict=True)
        }
        assert found.keys() == pictures.keys()
        assert all(torch.equal(found[id], pictures[id]) for id in found)


@given(
    count=st.integers(1, 60),
    local=st.integers(1, 5),
    world=st.sampled_from([1, 2, 3, 4]),
    epoch=st.integers(0, 9),
)
def test_the_ranks_share_each_global_batch(count: int, local: int, world: int, epoch: int) -> None:
    """Against one device: the same sets, batch by batch, without repeats, the incomplete tail dropped."""
    size, data = local * world, Numbers(count)

    def global_batches(world: int) -> list[list[tuple[int, int]]]:
        samplers = [
            EpochSampler(data, world, rank, seed=1, drop_last=True) for rank in range(world)
        ]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        keys = [list(sampler) for sampler in samplers]
        step = size // world
        return [
            [key for rank in keys for key in rank[start : start + step]]
            for start in range(0, len(keys[0]) - step + 1, step)
        ]

    alone, together = global_batches(1), global_batches(world)
    assert [set(batch) for batch in alone] == [set(batch) for batch in together]
    assert len(together) == count // size
    assert all(len(set(batch)) == size for batch in together)
    assert all(key[0] == epoch for batch in together for key in batch)


@given(count=st.integers(1, 20), world=st.integers(1, 5))
def test_without_drop_last_every_sample_is_visited_and_ranks_stay_level(
    count: int, world: int
) -> None:
    samplers = [
        EpochSampler(Numbers(count), world, rank, seed=1, drop_last=False) for rank in range(world)
    ]
    keys = [list(sampler) for sampler in samplers]
    assert {key[1] for rank in keys for key in rank} == set(range(count))
    assert {len(rank) for rank in keys} == {len(samplers[0])} == {-(-count // world)}


def test_the_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(Numbers(50), 1, 0, seed, drop_last=True)
        sampler.set_epoch(epoch)
        return [index for _, index in sampler]

    orders = {(seed, epoch): order(seed, epoch) for seed in (1, 2) for epoch in (0, 1)}
    assert all(sorted(found) == list(range(50)) for found in orders.values())
    assert (
        len({tuple(found) for found in orders.values()}) == 4
    )  # torch's seed + epoch would repeat one
    assert orders[1, 1] == order(1, 1)


def test_a_region_is_resized_and_moved_with_the_masks_and_ignored_where_nothing_was(
    make_source: MakeSource,
) -> None:
    source = make_source()
    read = source.read

    def with_region(id: str) -> Sample:
        image, mask, _ = read(id)
        return Sample(
            image, mask[..., :1], mask[..., 0] + np.uint8(1)
        )  # OpenCV rounds ties differently for two planes

    source.read = with_region
    turn = Augmentation(
        [{"name": "Rotate", "limit": [45, 45], "p": 1.0}, {"name": "HorizontalFlip", "p": 0.5}], 1
    )
    data = SegmentationDataset(source, ["s00", "s01"], (64, 64), turn)
    assert data.store[0].region is not None
    assert np.array_equal(data.store[0].region, data.store[0].mask[..., 0] + 1)
    for key in ((0, 0), (0, 1), (1, 0), (1, 1)):
        item = data[key]
        region, mask = item["region"], item["mask"][:1]
        assert region.shape == (1, 64, 64)
        assert region.dtype == torch.uint8
        assert torch.equal(region == 2, mask == 1)
        corners = region[0, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners == 0).all()
        assert (
            0.1 < (region == 0).float().mean() < 0.25
        )  # a square turned by 45 degrees leaves 17 % of its frame empty


def test_holes_in_the_image_leave_the_region_as_it_is() -> None:
    hole = {
        "name": "CoarseDropout",
        "hole_height_range": [0.5, 0.5],
        "hole_width_range": [0.5, 0.5],
        "p": 1.0,
    }
    ones = np.ones((16, 16, 1), np.uint8)
    sample = Augmentation([hole | {"fill": 0, "fill_mask": 0}], 0).change(
        Sample(ones, ones, ones[..., 0]), (0, "a")
    )
    assert np.array_equal(sample.image, sample.mask)
    assert sample.mask.sum() < 256
    assert sample.region is not None
    assert sample.region.all()


def test_samples_without_a_region_have_no_such_key(make_source: MakeSource) -> None:
    assert "region" not in SegmentationDataset(make_source(), ["s00"], None, None)[0]


def test_an_id_that_stands_twice_is_read_once_and_changed_differently(
    make_source: MakeSource,
) -> None:
    source = make_source()
    data = SegmentationDataset(source, ["s00", "s01", "s00"], None, AUGMENTATION)
    alone = SegmentationDataset(source, ["s00"], None, AUGMENTATION)
    assert len(data.store) == 2
    assert [data[index]["id"] for index in range(3)] == ["s00", "s01", "s00"]
    assert [data[index]["index"] for index in range(3)] == [0, 1, 2]
    assert same(data[0], alone[0])
    assert not same(data[2], data[0])


def test_a_batch_holds_the_items_and_its_images_lie_channels_last(make_source: MakeSource) -> None:
    data = SegmentationDataset(make_source(), ["s00", "s01", "s02"], None, AUGMENTATION)
    items = [data[index] for index in range(3)]
    batch = collate(items)
    assert torch.equal(batch["image"], torch.stack([item["image"] for item in items]))
    assert torch.equal(batch["mask"], torch.stack([item["mask"] for item in items]))
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["mask"].is_contiguous()
    assert (batch["id"], batch["index"].tolist()) == (["s00", "s01", "s02"], [0, 1, 2])
