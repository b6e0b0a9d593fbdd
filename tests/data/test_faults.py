"""Files as people really have them: each is read right, or refused in one sentence that names it."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.reading.masks import read_labels, read_mask
from lightning_seg.data.reading.pictures import read_grey, read_image
from lightning_seg.data.sources.base.pairs import pair_files, read_pair
from lightning_seg.data.sources.folder import Folder
from lightning_seg.data.sources.kvasir_seg import KvasirSEG
from lightning_seg.errors import InputError

SHAPE = (48, 64)
MASK = np.zeros(SHAPE, np.uint8)
MASK[10:30, 12:40] = 255


def scene(seed: int = 0) -> np.ndarray:
    """(H, W, 3) smooth and coloured, as a frame of an endoscope."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    red = 150 + 60 * np.sin(rows / 9 + seed)
    return np.stack([red, 60 + columns * 0.8, 50 + rows * 0.7], axis=2).astype(np.uint8)


def save(path: Path, picture: np.ndarray | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
        path, **options
    )
    return path


def refused(path: Path, read: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_exchanged_folders_of_images_and_masks_are_noticed(tmp_path: Path, suffix: str) -> None:
    for stem in "ab":
        save(tmp_path / "images" / f"{stem}.{suffix}", MASK)
        save(tmp_path / "masks" / f"{stem}.{suffix}", scene())
    for source in (KvasirSEG(tmp_path), Folder(tmp_path)):
        with pytest.raises(
            InputError, match=r"masks/a\.\w+ is no mask.* colour.* folders .* exchanged"
        ):
            source.read("a")
    grey = save(tmp_path / "masks" / f"a.{suffix}", scene()[..., 1])
    refused(grey, read_mask, r"is no mask.* exchanged")


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_a_mask_blurred_by_jpeg_is_still_a_mask(tmp_path: Path, quality: int) -> None:
    for name, pixels in (("grey", MASK), ("rgb", np.repeat(MASK[..., None], 3, axis=2))):
        read = read_mask(save(tmp_path / f"{name}.jpg", pixels, quality=quality))
        assert (read != MASK // 255).mean() < 0.01


def test_a_16_bit_image_is_refused_since_its_black_and_white_are_unknown(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.png", scene()[..., 0].astype(np.uint16) * 16)
    for read in (read_image, read_grey):
        refused(path, read, "values of more than 8 bits.* scale it to 8 bits")
    refused(
        save(tmp_path / "f.tif", scene()[..., 0].astype(np.float32)), read_image, "more than 8 bits"
    )


def test_a_16_bit_mask_is_read_on_either_scale_and_refused_between_them(tmp_path: Path) -> None:
    wide = MASK.astype(np.uint16)
    for name, pixels in (("narrow", wide), ("full", wide * 257)):
        assert np.array_equal(read_mask(save(tmp_path / f"{name}.png", pixels)), MASK // 255)
    odd = save(tmp_path / "odd.png", wide * 16)
    assert np.array_equal(read_mask(odd), MASK // 255)  # 0 and 4080
    refused(odd, lambda path: read_mask(path, 127), "16-bit values end at 4080")
    assert np.array_equal(
        read_labels(save(tmp_path / "labels.png", wide * 16)), MASK.astype(int) * 16
    )


def test_a_palette_mask_is_read_by_its_colours_and_its_labels_by_index(tmp_path: Path) -> None:
    indices = Image.fromarray(MASK // 255)
    indices.putpalette([0, 0, 0, 255, 255, 255])
    path = save(tmp_path / "mask.png", indices)
    assert Image.open(path).mode == "P"
    assert np.array_equal(read_mask(path), MASK // 255)
    assert np.array_equal(read_labels(path), MASK // 255)
    # the colours of Pascal VOC: grey 38, so under any usual threshold
    indices.putpalette([0, 0, 0, 128, 0, 0])
    assert np.array_equal(read_mask(save(tmp_path / "voc.png", indices)), MASK // 255)
    two = Image.fromarray(MASK // 255 + 2 * (np.arange(SHAPE[1]) == 50).astype(np.uint8))
    two.putpalette([0, 0, 0, 128, 0, 0, 224, 224, 192])
    sentence = r"3 colours \(#000000, #800000, #e0e0c0\).*labels: \['#ff0000'\].*labels: nonzero"
    refused(save(tmp_path / "border.png", two), read_mask, sentence)
    image = Image.fromarray(scene()).quantize(64)
    assert np.array_equal(
        read_image(save(tmp_path / "image.png", image)), np.array(image.convert("RGB"))
    )


def test_one_bit_masks_are_read(tmp_path: Path) -> None:
    for suffix in ("png", "bmp", "tif", "gif"):
        assert np.array_equal(
            read_mask(save(tmp_path / f"m.{suffix}", Image.fromarray(MASK).convert("1"))),
            MASK // 255,
        )


@pytest.mark.parametrize(("orientation", "turn"), [(6, -1), (8, 1)])
def test_a_photograph_that_was_turned_fits_the_mask_drawn_on_it(
    tmp_path: Path, orientation: int, turn: int
) -> None:
    image = turned_photograph(tmp_path / "x.jpg", orientation)
    sample = read_pair(image, save(tmp_path / "m.png", np.rot90(MASK, turn).copy()))
    assert np.abs(sample.image.astype(int) - np.rot90(scene(), turn)).mean() < 3
    with pytest.raises(InputError, match=r"x\.jpg by orientation .* their sizes differ"):
        read_pair(image, save(tmp_path / "stored.png", MASK))


def test_a_photograph_on_its_head_does_not_tell_how_its_mask_lies(tmp_path: Path) -> None:
    image = turned_photograph(tmp_path / "x.jpg", 3)
    for mask in (MASK, np.rot90(MASK, 2).copy()):
        with pytest.raises(InputError, match="is not known; save both upright"):
            read_pair(image, save(tmp_path / "m.png", mask))


def turned_photograph(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, scene(), exif=exif, quality=95)


def test_an_opaque_alpha_channel_is_dropped_and_a_transparent_picture_refused(
    tmp_path: Path,
) -> None:
    opaque = np.dstack([scene(), np.full(SHAPE, 255, np.uint8)])
    assert np.array_equal(read_image(save(tmp_path / "opaque.png", opaque)), scene())
    mask = np.dstack([MASK, MASK, MASK, np.full(SHAPE, 255, np.uint8)])
    assert np.array_equal(read_mask(save(tmp_path / "mask.png", mask)), MASK // 255)
    seen = np.dstack([scene(), MASK])
    refused(save(tmp_path / "seen.png", seen), read_image, "transparent pixels.* flatten it")
    drawn = np.dstack(
        [np.full((*SHAPE, 3), 255, np.uint8), MASK]
    )  # white everywhere, the shape in the alpha channel alone
    refused(save(tmp_path / "drawn.png", drawn), read_mask, "transparent pixels")
    refused(
        save(tmp_path / "grey.png", Image.fromarray(MASK), transparency=0),
        read_mask,
        "transparent pixels",
    )


def test_cmyk_is_read_as_the_colours_it_prints(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.fromarray(scene()).convert("CMYK"), quality=95)
    assert Image.open(path).mode == "CMYK"
    assert np.abs(read_image(path).astype(int) - scene()).mean() < 4
    mask = save(tmp_path / "m.tif", Image.fromarray(MASK).convert("RGB").convert("CMYK"))
    assert np.array_equal(read_mask(mask), MASK // 255)


def test_a_mask_of_small_numbers_is_not_silently_empty(tmp_path: Path) -> None:
    for high in (1, 2, 38):
        path = save(tmp_path / f"m{high}.png", MASK // 255 * np.uint8(high))
        sentence = "none above the threshold 127; set it to 0"
        refused(path, lambda path: read_mask(path, 127), sentence)
        for threshold in (None, 0):
            assert np.array_equal(read_mask(path, threshold), MASK // 255)


@pytest.mark.parametrize("stem", ["Größe 1", "画像 (2)", "a b.c", "é", "100%_#1", "-x"])
def test_names_with_spaces_and_any_script_are_read_and_trained_on(
    tmp_path: Path, stem: str
) -> None:
    root = tmp_path / "Daten für Übung"
    for extra in ("", "1", "2"):
        save(root / "images" / f"{stem}{extra}.jpg", scene())
        save(root / "masks" / f"{stem}{extra}.png", MASK)
    data = SegmentationDataModule(
        "folder", str(root), protocol="auto-1", size=32, batch_size=1, num_workers=0
    )
    data.setup("fit")
    data.setup("test")
    found = [
        item["id"]
        for loader in (data.train_dataloader(), data.test_dataloader())
        for item in loader
    ]
    assert all(id[0].startswith(stem) for id in found)
    assert data.source.read(stem).mask.sum() == (MASK > 0).sum()


def test_a_name_stored_composed_and_decomposed_is_one_name(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Größe é") for form in ("NFC", "NFD"))
    assert composed != decomposed
    save(tmp_path / "images" / f"{decomposed}.png", scene())
    save(tmp_path / "masks" / f"{composed}.png", MASK)
    pairs = pair_files(tmp_path / "images", tmp_path / "masks")
    assert list(pairs) == [composed]
    assert read_pair(*pairs[composed]).mask.sum() == (MASK > 0).sum()
