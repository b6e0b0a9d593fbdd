"""Reading files: what is damaged, missing or no mask is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import sources
from lightning_seg.data.reading.masks import read_mask
from lightning_seg.data.reading.pictures import read_image
from lightning_seg.data.sources.base import DATASETS, find_folder, find_root, source_class
from lightning_seg.data.sources.base.pairs import pair_files, read_pair
from lightning_seg.errors import InputError


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_an_image_is_read_as_rgb(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    assert np.array_equal(read_image(save(tmp_path / f"x{suffix}", picture)), picture)


def test_a_grey_image_is_read_as_three_equal_channels(tmp_path: Path, picture: np.ndarray) -> None:
    image = read_image(save(tmp_path / "x.png", picture[..., 0]))
    assert all(np.array_equal(image[..., channel], picture[..., 0]) for channel in range(3))


def test_an_image_is_turned_as_its_exif_orientation_says(
    tmp_path: Path, picture: np.ndarray
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn 90 degrees clockwise to display
    path = save(tmp_path / "x.png", picture, exif=exif)
    assert np.array_equal(read_image(path), np.rot90(picture, -1))


@pytest.mark.parametrize("kept", [0, 20, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_file_is_refused_by_name(
    tmp_path: Path, picture: np.ndarray, suffix: str, kept: float
) -> None:
    path = save(tmp_path / f"broken{suffix}", picture)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=f"broken{suffix}"):
        read_image(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg does not exist"):
        read_image(tmp_path / "gone.jpg")


def test_with_a_threshold_a_mask_is_one_where_the_grey_value_exceeds_it(tmp_path: Path) -> None:
    grey = np.zeros((2, 40), np.uint8)
    grey[:, :4] = [[0, 1, 100, 127], [128, 200, 254, 255]]
    path = save(tmp_path / "m.png", grey)
    assert np.array_equal(read_mask(path, 127)[:, :5], [[0, 0, 0, 0, 0], [1, 1, 1, 1, 0]])
    assert np.array_equal(read_mask(path, threshold=0)[:, :5], [[0, 1, 1, 1, 0], [1, 1, 1, 1, 0]])
    assert read_mask(path, 127).dtype == np.uint8
    with pytest.raises(
        InputError, match=r"holds 8 grey values \(0, 1, 100, ... 255\).*mask_threshold"
    ):
        read_mask(path)


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_or_full_mask_is_a_mask(tmp_path: Path, value: int) -> None:
    mask = read_mask(save(tmp_path / "m.jpg", np.full((16, 16), value, np.uint8)))
    assert (mask == value // 255).all()


def test_an_all_grey_picture_is_no_mask(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(100, 151, (16, 16), dtype=np.uint8)
    with pytest.raises(
        InputError, match=r"m\.png is no mask.*\(100, 101, 102, ... 150\).*exchanged"
    ):
        read_mask(save(tmp_path / "m.png", grey))


def test_a_mask_of_zeros_and_ones_is_not_silently_empty(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.eye(16, dtype=np.uint8))
    with pytest.raises(InputError, match="set it to 0"):
        read_mask(path, threshold=127)
    for threshold in (None, 0):
        assert np.array_equal(read_mask(path, threshold), np.eye(16))


def test_image_and_mask_of_different_sizes_are_refused_with_both_sizes(
    tmp_path: Path, picture: np.ndarray
) -> None:
    image, mask = (
        save(tmp_path / "i.png", picture),
        save(tmp_path / "m.png", np.zeros((40, 50), np.uint8)),
    )
    with pytest.raises(InputError, match="60x40 and 50x40"):
        read_pair(image, mask)


def folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


def test_files_pair_by_stem_in_sorted_order(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", "b.jpg", "a.JPG", ".hidden.jpg", "Thumbs.db", "notes.txt")
    masks = folder(tmp_path / "masks", "a.png", "b.png", "without-image.png")
    pairs = pair_files(images, masks)
    assert list(pairs) == ["a", "b"]
    assert pairs["a"] == (images / "a.JPG", masks / "a.png")


def test_masks_of_other_names_pair_by_the_stem_they_should_have(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", "21_training.tif", "22_training.tif")
    masks = folder(tmp_path / "masks", "21_manual1.gif", "22_manual1.gif")
    pairs = pair_files(images, masks, lambda stem: f"{stem[:2]}_manual1")
    assert pairs["22_training"] == (images / "22_training.tif", masks / "22_manual1.gif")
    (masks / "21_manual1.gif").unlink()
    with pytest.raises(InputError, match=r"21_training\.tif has no mask .*1 of 2"):
        pair_files(images, masks, lambda stem: f"{stem[:2]}_manual1")


def test_a_folder_is_found_by_the_parts_that_it_holds(tmp_path: Path) -> None:
    assert find_folder(tmp_path, ("Set", "set"), ("images", "masks")) is None
    (tmp_path / "Set" / "images").mkdir(parents=True)
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    assert find_folder(tmp_path, ("Set", "set"), ("images", "masks")) == tmp_path / "set"
    assert find_folder(tmp_path / "set", ("Set", "set"), ("images", "masks")) == tmp_path / "set"


def test_the_first_image_without_a_mask_is_named(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    with pytest.raises(InputError, match=r"b\.jpg has no mask .*2 of 3"):
        pair_files(images, folder(tmp_path / "masks", "a.jpg"))


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", "a.jpg", "a.png")
    with pytest.raises(InputError, match="share one stem"):
        pair_files(images, folder(tmp_path / "masks", "a.jpg"))


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*images"):
        pair_files(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(InputError, match="no pictures in"):
        pair_files(folder(tmp_path / "images"), folder(tmp_path / "masks"))


def test_a_root_that_is_given_wins_and_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEG_DATA", str(tmp_path / "elsewhere"))
    assert find_root("x", tmp_path, ("X",)) == tmp_path
    with pytest.raises(InputError, match="gone' does not exist"):
        find_root("x", tmp_path / "gone", ("X",))


def test_without_a_root_the_data_variable_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEG_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"nothing found at .*First, .*second"):
        find_root("x", None, ("First", "second"))
    (tmp_path / "second").mkdir()
    assert find_root("x", None, ("First", "second")) == tmp_path / "second"
    monkeypatch.delenv("LIGHTNING_SEG_DATA")
    with pytest.raises(InputError, match="LIGHTNING_SEG_DATA is not set"):
        find_root("x", None, ("First", "second"))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_registered_data_set_describes_itself_without_data(name: str) -> None:
    kind = source_class(name)
    assert kind.classes
    assert kind.in_channels in (1, 3)
    assert isinstance(kind.default_protocol, str)


def test_a_misspelt_data_set_gets_its_near_match() -> None:
    with pytest.raises(InputError, match="did you mean 'kvasir_seg'"):
        source_class("kvasir-seg")


def test_a_data_set_is_known_by_its_file() -> None:
    files = {path.stem for path in Path(sources.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(DATASETS)
    for name in files:
        kind = source_class(name)
        assert kind.__name__.lower() == name.replace("_", "")
        assert kind.__module__.rpartition(".")[2] == name
