"""DRIVE in the owners' layout, drawn small; and the real one where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from lightning_seg.data import load_protocol
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.sources import drive as implementation
from lightning_seg.data.sources.drive import DRIVE
from lightning_seg.data.splits import PROTOCOLS, check
from lightning_seg.errors import InputError

SHAPE = (37, 30)  # (height, width)
IDS = [f"{number:02d}_{'test' if number <= 20 else 'training'}" for number in range(1, 41)]


def vessels(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(H, W) bool: one line, another for each number."""
    mask = np.zeros(shape, bool)
    mask[2 + number % 30] = True
    return mask


def view(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(H, W) bool: the field of view, narrower for each number."""
    inside = np.zeros(shape, bool)
    inside[:, 1 + number // 8 : -1] = True
    return inside


def write(parent: Path, numbers: range, shape: tuple[int, int] = SHAPE) -> Path:
    """``<parent>/DRIVE`` as its owners pack it: 21_training.tif, 21_manual1.gif, 21_training_mask.gif, ..."""
    folder = parent / "DRIVE"
    for number in numbers:
        half, stem = (
            ("test", f"{number:02d}_test")
            if number <= 20
            else ("training", f"{number:02d}_training")
        )
        truth = vessels(number, shape)
        parts = {
            "1st_manual": (f"{number:02d}_manual1", truth),
            "mask": (f"{stem}_mask", view(number, shape)),
        }
        if half == "test":
            parts["2nd_manual"] = (f"{number:02d}_manual2", ~truth)
        for part, (name, pixels) in parts.items():
            (folder / half / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * pixels).astype(np.uint8)).save(
                folder / half / part / f"{name}.gif"
            )
        (folder / half / "images").mkdir(exist_ok=True)
        image = np.stack([truth * 200, np.full(shape, number), np.zeros(shape)], axis=2).astype(
            np.uint8
        )
        Image.fromarray(image).save(
            folder / half / "images" / f"{stem}.tif", compression="tiff_lzw"
        )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("drive"), range(1, 41))


def test_a_sample_is_the_photograph_and_the_first_observers_vessels(folder: Path) -> None:
    source = DRIVE(folder)
    assert source.ids == sorted(IDS)
    assert source.groups == {id: id for id in IDS}
    for id, number in (("01_test", 1), ("21_training", 21), ("40_training", 40)):
        image, mask, _ = source.read(id)
        assert image.shape == (*SHAPE, 3)
        assert mask.shape == (*SHAPE, 1)
        assert image.dtype == mask.dtype == np.uint8
        assert (image[..., 1] == number).all()
        assert np.array_equal(mask[..., 0], vessels(number))


def test_the_region_is_the_owners_field_of_view(folder: Path) -> None:
    source = DRIVE(folder)
    assert source.regions
    for id, number in (("01_test", 1), ("40_training", 40)):
        region = source.read(id).region
        assert region is not None
        assert region.dtype == np.uint8
        assert np.array_equal(region, np.where(view(number), 2, 1))
        assert all(path.is_file() for path in source.files(id))
        assert len(source.files(id)) == 3


def test_copies_without_fields_of_view_are_refused_unless_told(tmp_path: Path) -> None:
    folder = write(tmp_path, range(20, 22))
    (folder / "test" / "mask" / "20_test_mask.gif").unlink()
    with pytest.raises(InputError, match=r"20_test\.tif has no mask in .*test/mask"):
        DRIVE(folder)
    (folder / "test" / "mask").rmdir()
    with pytest.raises(
        InputError, match=r"without their fields of view, mask/; .* field_of_view: false"
    ):
        DRIVE(folder)
    source = DRIVE(folder, field_of_view=False)
    assert not source.regions
    assert source.read("20_test").region is None


def test_a_field_of_view_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, range(20, 22))
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(
        folder / "test" / "mask" / "20_test_mask.gif"
    )
    with pytest.raises(InputError, match=r"20_test_mask\.gif differ in size \(30x37 and 9x9\)"):
        DRIVE(folder).read("20_test")


def test_folder_parent_and_data_variable_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, range(20, 22))
    monkeypatch.setenv("LIGHTNING_SEG_DATA", str(tmp_path))
    assert DRIVE(folder).ids == DRIVE(tmp_path).ids == DRIVE().ids == ["20_test", "21_training"]
    folder.rename(tmp_path / "drive")
    assert DRIVE().ids == DRIVE(tmp_path).ids == ["20_test", "21_training"]


def test_a_place_without_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not hold training/images/ and test/images/"):
        DRIVE(tmp_path)


def test_a_copy_without_labels_of_the_test_images_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, range(20, 22))
    (folder / "test" / "1st_manual" / "20_manual1.gif").unlink()
    with pytest.raises(InputError, match=r"20_test\.tif has no mask"):
        DRIVE(folder)
    (folder / "test" / "1st_manual").rmdir()
    with pytest.raises(InputError, match=r"test holds images without their labels"):
        DRIVE(folder)


def test_the_protocol_follows_from_the_ids_by_its_rule() -> None:
    split = load_protocol("drive")
    assert split.ids["test"] == tuple(IDS[:20])
    assert split.ids["train"] == tuple(IDS[20:36])
    assert split.ids["val"] == tuple(IDS[36:])
    assert implementation.protocol(IDS[::-1]) == (PROTOCOLS / "drive.csv").read_text(
        encoding="utf-8"
    )


def test_it_trains_and_tests_in_its_own_size(folder: Path) -> None:
    module = SegmentationDataModule(
        "drive", str(folder), size=None, batch_size=8, copies=13, online=False
    )
    assert module.hparams["size"] is None
    assert module.protocol_name == "drive"
    module.setup("fit")
    module.setup("test")
    assert len(module.train_dataloader()) == 16 * 13 // 8
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        batch = next(iter(loader))
        assert batch["image"].shape[1:] == (3, *SHAPE)
        assert batch["mask"].shape[1:] == (1, *SHAPE)


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    write(tmp_path, range(1, 40))
    folder = write(tmp_path, range(40, 41), (SHAPE[0] + 1, SHAPE[1]))
    module = SegmentationDataModule("drive", str(folder), size=None)
    with pytest.raises(InputError, match=r"'40_training' has the shape \(38, 30, 3\).*give a size"):
        module.setup("validate")
    scaled = SegmentationDataModule("drive", str(folder), size=16)
    scaled.setup("validate")
    assert next(iter(scaled.val_dataloader()))["image"].shape == (4, 3, 16, 16)


def real() -> DRIVE:
    if "LIGHTNING_SEG_DATA" not in os.environ:
        pytest.skip("LIGHTNING_SEG_DATA is not set: the real DRIVE is not at hand")
    return DRIVE()


def test_the_real_data_set_is_whole_and_fits_its_protocol() -> None:
    source = real()
    assert source.ids == sorted(IDS)
    check(load_protocol("drive"), source)
    samples = [source.read(id) for id in source.ids[::4]]
    assert {sample.image.shape for sample in samples} == {(584, 565, 3)}
    shares = [sample.mask.mean() for sample in samples]
    assert 0.05 < min(shares) <= max(shares) < 0.13


def test_each_real_photograph_has_its_own_vessels() -> None:
    """Vessels are darker than their surroundings, and another photograph's mask does not lie on them."""
    source = real()
    samples = [source.read(id) for id in source.ids[::4]]
    for index, (image, mask, _) in enumerate(samples):
        green = image[..., 1].astype(float)
        darker = uniform_filter(green, 25) - green
        other = samples[index - 1].mask
        assert darker[mask[..., 0] == 1].mean() > 4 * abs(darker[other[..., 0] == 1].mean())


def test_real_fields_of_view_hold_two_thirds_of_the_frame_and_every_vessel() -> None:
    source = real()
    for id in source.ids[::8]:
        _, mask, region = source.read(id)
        assert region is not None
        assert set(np.unique(region)) == {1, 2}
        assert 0.66 < (region == 2).mean() < 0.71  # about 227,000 of 329,960 pixels
        assert (region[mask[..., 0] == 1] == 2).mean() > 0.99
