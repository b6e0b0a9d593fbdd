"""LiTS in its owners' layout: scans as slices, their labels, their files of decoded slices, and what can be wrong with them."""

import errno
import multiprocessing
import os
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.volumes import draw_scan, write_scan
from lightning_seg.data import SegmentationDataModule, load_protocol
from lightning_seg.data.check import examine_data
from lightning_seg.data.check.summary import lines
from lightning_seg.data.sources import lits
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.base.scans import oversampled
from lightning_seg.data.sources.lits import LiTS
from lightning_seg.data.splits import PROTOCOLS, SPLITS
from lightning_seg.data.store.planes import Planes, window
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError

SHAPE = (6, 20, 24)  # slices, rows, columns


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def write(folder: Path, *numbers: int, **options: Any) -> Path:
    for number in numbers:
        write_scan(folder, number, SHAPE, **options)
    return folder


def slices_of(source: LiTS) -> list[str]:
    return [id for scan in source.ids for id in source.expand(scan)]


def grey(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """The window, voxel by voxel in double precision."""
    return np.rint(np.clip((hu.astype(float) - low) / (high - low), 0, 1) * 255)


def same(one: Sample, other: Sample) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("orientation", ["LAI", "RAS", "PIR"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slices_are_those_that_were_drawn_whatever_the_orientation(
    tmp_path: Path, orientation: str, suffix: str
) -> None:
    source = LiTS(write(tmp_path / "LiTS", 3, 12, orientation=orientation, suffix=suffix))
    assert source.ids == ["volume-12", "volume-3"]
    assert source.expand("volume-3") == tuple(f"volume-3/{index:04d}" for index in range(6))
    ct, labels = draw_scan(3, SHAPE)
    for index, id in enumerate(source.expand("volume-3")):
        image, mask, region = source.read(id)
        assert np.array_equal(image[..., 0], grey(ct[index], -200, 250))
        assert np.array_equal(mask, np.stack([labels[index] > 0, labels[index] == 2], axis=2))
        assert region is None
    assert labels.max() == 2
    assert source.spacing("volume-3", None) == pytest.approx((5, 0.8, 0.8))
    assert source.spacing("volume-3", (10, 8)) == pytest.approx((5, 1.6, 2.4))


def test_the_owners_two_batches_are_one_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "LiTS" / "Training Batch 1", 0, 1, suffix=".nii")
    write(tmp_path / "LiTS" / "Training Batch 2", 28)
    (tmp_path / "LiTS" / "test-volume-0.nii").write_bytes(b"without labels")
    monkeypatch.setenv("LIGHTNING_SEG_DATA", str(tmp_path))
    source = LiTS()
    assert source.ids == ["volume-0", "volume-1", "volume-28"]
    assert source.files("volume-28/0002") == source.files("volume-28")
    assert {path.name for path in source.files("volume-28")} == {
        "volume-28.nii.gz",
        "segmentation-28.nii.gz",
    }
    assert (
        source.groups["volume-1/0003"]
        == source.groups["volume-1"]
        == source.groups.get("volume-1/0003")
    )
    assert source.groups.get("volume-9/0000") is None


@given(
    low=st.floats(-1000, 0),
    width=st.floats(1, 2000),
    hu=st.lists(st.integers(-3024, 3071), min_size=1),
)
def test_a_window_maps_its_ends_to_black_and_white_and_keeps_the_order(
    low: float, width: float, hu: list[int]
) -> None:
    array = np.sort(np.array(hu, np.int16))
    found = window(array, low, low + width)
    assert found.dtype == np.uint8
    assert (
        np.abs(found - grey(array, low, low + width)).max() <= 1
    )  # single precision may round a half the other way
    assert (np.diff(found.astype(int)) >= 0).all()
    assert (found[array <= low] == 0).all()
    assert (found[array >= low + width] == 255).all()


def test_a_tumour_is_liver_unless_classes_exclude_each_other(tmp_path: Path) -> None:
    write(tmp_path, 0)
    labels = draw_scan(0, SHAPE)[1][3]
    expected = {
        ("liver", "tumor", "nested"): [labels > 0, labels == 2],
        ("liver", "tumor", "exclusive"): [labels == 1, labels == 2],
        ("liver", "nested"): [labels > 0],
        ("tumor", "exclusive"): [labels == 2],
    }
    for (*classes, kind), masks in expected.items():
        options = {"classes": classes, "labels": kind}
        mask = LiTS(tmp_path, **options).read("volume-0/0003").mask  # type: ignore[arg-type]
        assert np.array_equal(mask, np.stack(masks, axis=2)), options
        data = SegmentationDataModule(
            "lits", str(tmp_path), protocol="test-only", dataset_options=options
        )
        assert list(data.classes) == classes


def test_channels_are_neighbours_and_the_outermost_slice_repeats(tmp_path: Path) -> None:
    write(tmp_path, 0)
    single, five = LiTS(tmp_path), LiTS(tmp_path, in_channels=5)
    planes = [single.read(id).image[..., 0] for id in slices_of(single)]
    store = five.store(slices_of(five), None, tmp_path / "cache")
    for index, id in enumerate(slices_of(five)):
        around = [min(max(index + step, 0), 5) for step in (-2, -1, 0, 1, 2)]
        expected = np.stack([planes[place] for place in around], axis=2)
        assert np.array_equal(five.read(id).image, expected)
        assert np.array_equal(store[index].image, expected)
        assert np.array_equal(store[index].mask, single.read(id).mask)


@pytest.mark.parametrize("size", [None, (16, 16), (20, 30)])
@pytest.mark.parametrize("options", [{}, {"in_channels": 3}, {"spacing": [4, 1.1, 0.9], "pad": 40}])
def test_decoded_files_hold_what_reading_and_resizing_gives(
    tmp_path: Path, size: tuple[int, int] | None, options: dict[str, Any]
) -> None:
    source = LiTS(write(tmp_path, 0, 1), **options)
    ids = slices_of(source)[::-2]
    store = source.store(ids, size, tmp_path / "cache")
    assert len(store) == len(ids)
    for index, id in enumerate(ids):
        read = source.read(id)
        assert same(store[index], resize_sample(read, size) if size else read), id
    again = pickle.loads(pickle.dumps(store))  # as for a worker that is spawned
    assert same(again[1], store[1])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_fingerprint, [(store, index) for index in range(len(ids))]) == [
            _fingerprint((store, index)) for index in range(len(ids))
        ]


def _fingerprint(place: tuple[Any, int]) -> int:
    store, index = place
    return hash(store[index].image.tobytes() + store[index].mask.tobytes())


@pytest.mark.parametrize(
    "spacing", [(5.0, 0.8, 0.8), (2.5, 0.4, 0.4), (7.5, 1.2, 1.0), (1.0, 0.8, 2.0)]
)
def test_resampling_keeps_extent_and_volume_in_ml(
    tmp_path: Path, spacing: tuple[float, float, float]
) -> None:
    shape = (16, 60, 60)
    _, labels = write_scan(tmp_path, 0, shape)
    source = LiTS(tmp_path, spacing=spacing, pad=128)
    found = source.spacing("volume-0", None)
    assert np.allclose(found, spacing, rtol=0.1)
    ids = source.expand("volume-0")
    assert len(ids) * found[0] == pytest.approx(16 * 5.0)
    ml = sum(source.read(id).mask[..., 0].sum() for id in ids) * np.prod(found) / 1000
    assert ml == pytest.approx((labels > 0).sum() * 5 * 0.8 * 0.8 / 1000, rel=0.05)
    assert source.read(ids[0]).image.shape == (128, 128, 1)
    assert source.spacing("volume-0", (64, 64)) == pytest.approx(
        (found[0], 2 * found[1], 2 * found[2])
    )


def test_between_two_slices_stands_their_mean_and_the_nearest_labels(tmp_path: Path) -> None:
    ct, labels = write_scan(tmp_path, 0, (4, 20, 24), spacing=(4, 1, 1))
    source = LiTS(tmp_path, spacing=(2, 1, 1))
    planes = [grey(plane, -200, 250) for plane in ct]
    for index, id in enumerate(source.expand("volume-0")):
        place = min(max((index + 0.5) / 2 - 0.5, 0), 3)
        low, share = int(place), place - int(place)
        expected = (1 - share) * planes[low] + share * planes[min(low + 1, 3)]
        assert np.abs(source.read(id).image[..., 0] - expected).max() <= 1
        assert np.array_equal(source.read(id).mask[..., 0], labels[round(place)] > 0)


def test_a_scan_is_decoded_once_and_again_when_its_files_change(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, cache = write(tmp_path / "LiTS", 0, 1), tmp_path / "cache"

    def decoded(size: int = 16, **options: Any) -> int:
        source = LiTS(root, **options)
        source.store(slices_of(source), (size, size), cache)
        found = re.search(r"decoding (\d+) scans? ", capfd.readouterr().err)
        return int(found[1]) if found else 0

    assert [decoded(), decoded(), decoded(in_channels=3), decoded(classes=["liver"])] == [
        2,
        0,
        0,
        0,
    ]
    assert [decoded(window=[-100, 100]), decoded(size=12), decoded()] == [2, 2, 0]
    os.utime(root / "segmentation-1.nii.gz", (1, 1))
    assert [decoded(), decoded()] == [1, 0]
    files = [
        path
        for path in cache.rglob("*.npy")
        if "16x16" in path.parent.name and path.name.startswith("volume-0")
    ]
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].unlink()
    assert [decoded() + decoded(window=[-100, 100]), decoded()] == [
        3,
        0,
    ]  # with the other scan, which has changed
    assert len(list(cache.rglob("*.npy"))) == 6  # what was of another state is gone
    assert not list(cache.rglob(".*.npy-*"))


def _build(place: tuple[Path, Path]) -> list[int]:
    root, cache = place
    source = LiTS(root)
    store = source.store(slices_of(source), (16, 16), cache)
    return [int(store[index].image.sum()) for index in range(len(store))]


def test_two_processes_that_build_at_once_read_the_same(tmp_path: Path) -> None:
    root = write(tmp_path / "LiTS", 0, 1, 2)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        sums = pool.map(_build, [(root, tmp_path / "cache")] * 3, chunksize=1)
    assert sums[0] == sums[1] == sums[2] == _build((root, tmp_path / "alone"))
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 3


def test_a_scan_has_one_content_under_all_settings_and_is_not_decoded_for_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "lits", 0, 1)
    narrow = LiTS(root, window=(0, 100))
    first, second = narrow.ids
    narrow.store(narrow.expand(first), (16, 16), None)
    decoded: list[str] = []
    monkeypatch.setattr(Planes, "content", lambda self: decoded.append("again"))
    wide = LiTS(root, window=(-200, 250))
    found = wide.contents(wide.expand(first))
    assert decoded == []
    monkeypatch.undo()
    assert found == narrow.contents(narrow.expand(first))
    assert found[first] != wide.contents(wide.expand(second))[second]


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = LiTS(write(tmp_path, 0))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError,
        match=r"cannot keep volume-0 in the cache .*No space left on device.*data\.cache",
    ):
        source.store(source.expand("volume-0"), (16, 16), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if "npy" in path.name]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot keep volume-0 in the cache"):
        source.store(source.expand("volume-0"), (16, 16), tmp_path / "file")


def test_a_file_that_vanishes_in_use_is_named(tmp_path: Path) -> None:
    source = LiTS(write(tmp_path, 0))
    store = source.store(source.expand("volume-0"), (16, 16), tmp_path / "cache")
    next((tmp_path / "cache").rglob("*.npy")).unlink()
    with pytest.raises(InputError, match=r"volume-0.*\.npy was removed or cut while it was in use"):
        _ = store[0]


def test_training_visits_the_slices_that_are_asked_for_and_tests_all(tmp_path: Path) -> None:
    root = write(tmp_path / "LiTS", *range(5))
    shown = {
        f"volume-{n}/{i:04d}": set(np.unique(plane))
        for n in range(5)
        for i, plane in enumerate(draw_scan(n, SHAPE)[1])
    }

    def visited(slices: Any) -> Counter[str]:
        options = {"slices": slices}
        data = SegmentationDataModule(
            "lits",
            str(root),
            "fold-1-of-5",
            16,
            4,
            num_workers=0,
            dataset_options=options,
            augment="none",
        )
        data.setup("fit")
        data.setup("test")
        for split in ("val", "test"):
            assert len(data.ids(split)) == 6
        assert sum(len(batch["id"]) for batch in data.test_dataloader()) == 6
        assert len(data.ids("train")) == 18
        return Counter(id for batch in data.train_dataloader() for id in batch["id"])

    every = visited("all")
    train = {id for id in shown if id.split("/")[0] in {one.split("/")[0] for one in every}}
    organ = {id for id in train if shown[id] - {0}}
    tumor = {id for id in train if 2 in shown[id]}
    assert 0 < len(tumor) < len(organ) < len(train) == 18
    assert set(visited("organ")) <= organ
    assert visited("organ").total() == len(organ) // 4 * 4  # whole batches
    often = LiTS(root, slices={"tumor": 0.75}).training_ids(sorted(train))
    assert set(often) == train
    assert sum(id in tumor for id in often) / len(often) == pytest.approx(0.75, abs=0.02)
    assert LiTS(root, slices="organ").training_ids(sorted(train)) == sorted(
        organ
    )  # known from the last time
    with pytest.raises(InputError, match=r"none of the .* slices to train on shows tumor"):
        LiTS(root, slices={"tumor": 0.5}).training_ids(sorted(train - tumor))


@given(
    marks=st.lists(st.booleans(), min_size=1, max_size=40).filter(any), share=st.floats(0.05, 0.9)
)
def test_oversampling_loses_no_slice_and_repeats_evenly(marks: list[bool], share: float) -> None:
    ids = [str(index) for index in range(len(marks))]
    counts = Counter(oversampled(ids, marks, share))
    assert set(counts) == set(ids)
    assert all(counts[id] == 1 for id, mark in zip(ids, marks, strict=True) if not mark)
    repeats = [counts[id] for id, mark in zip(ids, marks, strict=True) if mark]
    assert max(repeats) - min(repeats) <= 1
    found, one = sum(repeats) / counts.total(), 1 / counts.total()
    assert found >= min(share - one, 1) or sum(marks) == len(marks)
    assert found <= share + one or max(repeats) == 1


def test_each_scan_tests_in_one_of_five_folds(tmp_path: Path) -> None:
    splits = [load_protocol(f"lits-fold-{fold}") for fold in range(1, 6)]
    for fold, split in enumerate(splits, start=1):
        assert lits.protocol(fold) == (PROTOCOLS / f"lits-fold-{fold}.csv").read_text(
            encoding="utf-8"
        )
        assert sorted(id for name in SPLITS for id in split.ids[name]) == sorted(
            f"volume-{n}" for n in range(131)
        )
        assert split.ids["val"] == splits[fold % 5].ids["test"]
    assert Counter(id for split in splits for id in split.ids["test"]) == Counter(
        f"volume-{n}" for n in range(131)
    )
    with pytest.raises(InputError, match="fold is 6"):
        lits.protocol(6)
    data = SegmentationDataModule("lits", str(write(tmp_path, 0)))
    with pytest.raises(InputError, match=r"names 130 of 131 ids that the data set lacks"):
        _ = data.source


def test_a_fifth_tests_where_nearly_all_others_train() -> None:
    split = load_protocol("lits-80-20")
    text = (PROTOCOLS / "lits-80-20.csv").read_text(encoding="utf-8")
    assert lits.protocol_80_20() == text
    assert [len(split.ids[name]) for name in SPLITS] == [94, 10, 27]
    assert split.ids["test"] == load_protocol("lits-fold-1").ids["test"]


def test_no_scan_stands_in_two_splits(tmp_path: Path) -> None:
    root = write(tmp_path / "LiTS", *range(6))
    for protocol in ("auto", "fold-2-of-3", "leave-volume-3"):
        data = SegmentationDataModule("lits", str(root), protocol)
        homes = [{id.split("/")[0] for id in data.ids(name)} for name in SPLITS]
        assert sum(map(len, homes)) == len(set.union(*homes)) == 6
    assert homes[2] == {"volume-3"}


def test_damaged_scans_are_named(tmp_path: Path) -> None:
    def opened_and_decoded(root: Path) -> None:
        source = LiTS(root)
        source.store(source.expand("volume-0"), (16, 16), tmp_path / "cache")

    write(tmp_path / "ok", 0)
    labels = nibabel.load(tmp_path / "ok" / "segmentation-0.nii.gz")
    values = np.asanyarray(labels.dataobj)

    def refused(
        name: str, content: np.ndarray | bytes | None, message: str, affine: Any = labels.affine
    ) -> None:
        root = tmp_path / re.sub(r"\W+", "-", message)
        path = write(root, 0) / name
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            nibabel.Nifti1Image(content, affine).to_filename(path)
        with pytest.raises(InputError, match=message) as found:
            opened_and_decoded(root)
        assert str(path) in str(found.value) or content is None
        assert not list((tmp_path / "cache").rglob("*.npy*"))

    nan = np.where(values == 2, np.nan, 0).astype(np.float32)
    packed = (tmp_path / "ok" / "volume-0.nii.gz").read_bytes()
    refused("volume-0.nii.gz", nan, "holds NaN or infinity")
    refused("volume-0.nii.gz", packed[: len(packed) // 2], "cannot be decoded")
    refused("volume-0.nii.gz", b"", "is no readable volume")
    refused(
        "segmentation-0.nii.gz", values[:-1], r"has the shape \(24, 20, 6\) and .* \(23, 20, 6\)"
    )
    refused(
        "segmentation-0.nii.gz",
        np.where(values == 2, 3, values).astype(np.uint8),
        "holds the label 3",
    )
    refused("segmentation-0.nii.gz", None, r"has no segmentation-0\.nii")
    refused(
        "segmentation-0.nii.gz",
        values,
        "run to LAI and those of .* to RAI",
        labels.affine @ np.diag([-1, 1, 1, 1]),
    )
    refused("segmentation-0.nii", values, "bear one name")


def test_voxels_pair_one_by_one_where_a_header_is_known_to_be_wrong(tmp_path: Path) -> None:
    write(tmp_path, 0)
    expected = LiTS(tmp_path).read("volume-0/0003")
    path = tmp_path / "segmentation-0.nii.gz"
    labels = nibabel.load(path)
    nibabel.Nifti1Image(
        np.asanyarray(labels.dataobj), labels.affine @ np.diag([-1, 1, 1, 1])
    ).to_filename(path)
    assert same(LiTS(tmp_path, align="voxels").read("volume-0/0003"), expected)


@pytest.mark.parametrize(("moved", "refused"), [(1e-4, False), (0.4, True), (30, True)])
def test_headers_may_place_a_voxel_apart_by_rounding_alone(
    tmp_path: Path, moved: float, refused: bool
) -> None:
    write(tmp_path, 0)
    path = tmp_path / "segmentation-0.nii.gz"
    labels = nibabel.load(path)
    affine = labels.affine.copy()
    affine[:3, 3] += moved
    nibabel.Nifti1Image(np.asanyarray(labels.dataobj), affine).to_filename(path)
    if not refused:
        assert LiTS(tmp_path).ids == ["volume-0"]
        return
    with pytest.raises(InputError, match=rf"same voxel up to {moved * 3**0.5:.3g} mm apart.*align"):
        LiTS(tmp_path)
    assert LiTS(tmp_path, align="voxels").ids == ["volume-0"]


def test_scans_behind_a_link_are_found_and_other_volumes_said(tmp_path: Path) -> None:
    write(tmp_path / "store", 0)
    (tmp_path / "LiTS").mkdir()
    (tmp_path / "LiTS" / "batch").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "LiTS" / "other.nii").touch()
    source = LiTS(tmp_path / "LiTS", classes=["tumor"])
    assert (source.ids, source.classes) == (["volume-0"], ("tumor",))
    assert source.left_aside == ["volumes that are no scans of the data set: 1 (other.nii)"]


def test_a_ct_that_is_not_in_hu_stops_before_training(tmp_path: Path) -> None:
    write(tmp_path, 0)
    path = tmp_path / "volume-0.nii.gz"
    ct = nibabel.load(path)
    values = np.clip(np.asanyarray(ct.dataobj), -1024, None) + 1024
    nibabel.Nifti1Image(values.astype(np.int16), ct.affine).to_filename(path)
    with pytest.raises(InputError, match=r"volume-0\.nii\.gz holds values from 0 to .* Hounsfield"):
        LiTS(tmp_path).store(["volume-0/0000"], None, tmp_path / "cache")
    LiTS(tmp_path, window=(824, 1274)).store(["volume-0/0000"], None, tmp_path / "cache")


def test_an_incomplete_data_set_is_pointed_to_a_rule_for_what_is_there(tmp_path: Path) -> None:
    root = write(tmp_path, 0, 1, 2)
    with pytest.raises(InputError, match=r"lits-fold-1 names 128 of 131 .*'auto', which divides"):
        _ = SegmentationDataModule("lits", str(root), size=16).source


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"classes": ["liver", "tumour"]},
            "no class of the data set named 'tumour'; did you mean 'tumor'",
        ),
        ({"classes": []}, "classes is"),
        ({"classes": ["liver", "liver"]}, "classes is"),
        ({"labels": "nest"}, "no kind of labels named 'nest'; did you mean 'nested'"),
        ({"align": "voxel"}, "no way to align named 'voxel'; did you mean 'voxels'"),
        ({"window": [250, -200]}, "window is"),
        ({"window": [0]}, "window is"),
        ({"in_channels": 2}, "in_channels is 2"),
        ({"spacing": [1, 1]}, "spacing is"),
        ({"spacing": [0, 1, 1]}, "spacing is"),
        ({"pad": 0}, "pad is 0"),
        ({"pad": 22}, r"20 x 24 pixels, more than the 22"),
        ({"slices": "organs"}, "no sampling of slices named 'organs'; did you mean 'organ'"),
        ({"slices": {"kidney": 0.5}}, "no class of dataset_options.slices named 'kidney'"),
        ({"slices": {"tumor": 1.0}}, "slices is"),
        ({"slices": {"liver": 0.5, "tumor": 0.5}}, "slices is"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write(tmp_path, 0)
    with pytest.raises(InputError, match=message):
        LiTS(tmp_path, **options)


def test_doubts_about_headers_are_said_once_by_data_sets_and_their_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "LiTS", 0, 1, 2, suffix=".nii")
    for path in root.glob("*-[12].nii"):
        image = nibabel.load(path)
        image.header["sform_code"] = image.header["qform_code"] = 0
        image = nibabel.Nifti1Image(image.get_fdata().astype(np.int16), None, image.header)
        nibabel.save(image, path)
    module = SegmentationDataModule("lits", str(root), protocol="auto", size=16)
    module.setup("fit")
    assert module.source is module.source
    told = capsys.readouterr().err
    assert told.count("does not say where its axes run") == 1
    assert "2 of 3 scans have headers with such doubts" in told
    report = examine_data("lits", module.source, [])
    assert ("amber", "headers", report.doubts[0]) in lines(report)


def test_scans_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    write_scan(tmp_path, 0, (3, 20, 24))
    write_scan(tmp_path, 1, (4, 20, 20))
    source = LiTS(tmp_path)
    with pytest.raises(InputError, match=r"differ in size \(20 x 20, 20 x 24\); give data\.size"):
        source.store(slices_of(source), None, tmp_path / "cache")
    assert len(source.store(slices_of(source), (16, 16), tmp_path / "cache")) == 7


def test_where_there_are_no_scans_the_layout_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"given after registration and holds volume-N\.nii and segmentation-N\.nii",
    ):
        LiTS(tmp_path)


def test_foreground_of_slices_that_a_size_has_no_pixel_for_is_counted(tmp_path: Path) -> None:
    root = write(tmp_path / "LiTS", 0, 1, 2)
    for _ in range(2):  # decoded, and found again
        source = LiTS(root)
        ids = slices_of(source)
        for size in ((20, 24), (2, 2)):
            kept = source.store(ids, size, tmp_path / "cache")
            whole = [source.read(id).mask.any(axis=(0, 1)) for id in ids]
            left = [kept[place].mask.any(axis=(0, 1)) for place in range(len(ids))]
            expected = [np.flatnonzero(a & ~b).tolist() for a, b in zip(whole, left, strict=True)]
            assert kept.lost == expected
    assert any(kept.lost)
    module = SegmentationDataModule("lits", str(root), protocol="auto", size=2)
    module.setup("fit")
    assert "is lost at 2 x 2 pixels" in module.lost_foreground("train")
    assert "train masks" in module.lost_foreground("train")
