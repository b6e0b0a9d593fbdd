"""One rule for a path, an upload, a PIL image, an array, a tensor and the exported processor."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from lightning_seg.data.reading.pictures import as_picture, read_picture
from lightning_seg.errors import InputError

SHAPE = (24, 36)
SCENE = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
SMOOTH = np.dstack([np.mgrid[: SHAPE[0], : SHAPE[1]].sum(0) * 4] * 3).astype(np.uint8)
CLEAR = np.dstack([SCENE, np.full(SHAPE, 255, np.uint8)])
HOLED = np.dstack([SCENE, np.where(np.eye(*SHAPE) > 0, 0, 255).astype(np.uint8)])


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def pages(count: int) -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.fromarray(SMOOTH)] * (count - 1)}


# name -> (picture, what it is saved with, what it shows in the middle of the way it is looked at)
READ: dict[str, tuple[Any, dict[str, Any], Callable[[], np.ndarray]]] = {
    "plain.png": (SCENE, {}, lambda: SCENE),
    "plain.webp": (SCENE, {"lossless": True}, lambda: SCENE),
    "turned.png": (SCENE, {"exif": turned()}, lambda: np.rot90(SCENE, -1)),
    "turned.tif": (SCENE, {"exif": turned()}, lambda: np.rot90(SCENE, -1)),
    "opaque.png": (CLEAR, {}, lambda: SCENE),
    "grey.png": (SCENE[..., 0], {}, lambda: np.repeat(SCENE[..., :1], 3, axis=2)),
    "bits.png": (SCENE[..., 0] > 99, {}, lambda: np.dstack([(SCENE[..., 0] > 99) * 255] * 3)),
    "palette.png": (
        Image.fromarray(SCENE).quantize(32),
        {},
        lambda: np.array(Image.fromarray(SCENE).quantize(32).convert("RGB")),
    ),
    "cmyk.tif": (
        Image.fromarray(SCENE).convert("CMYK"),
        {},
        lambda: np.array(Image.fromarray(SCENE).convert("CMYK").convert("RGB")),
    ),
    "one_page.tif": (SCENE, pages(1), lambda: SCENE),
}
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "deep.png": (SCENE[..., 0].astype(np.uint16) * 16, {}, "more than 8 bits"),
    "float.tif": (SCENE[..., 0].astype(np.float32), {}, "more than 8 bits"),
    "holed.png": (HOLED, {}, "transparent"),
    "stack.tif": (SCENE, pages(5), "holds 5 pages"),
    "moving.gif": (SCENE, pages(3), "pages or frames"),
    "moving.png": (SCENE, pages(3), "pages or frames"),
    "moving.webp": (SCENE, pages(3), "pages or frames"),
}


def save(path: Path, picture: Any, options: dict[str, Any]) -> Path:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def processed(picture: Any, channels: int) -> np.ndarray:
    remote = pytest.importorskip("lightning_seg.export.remote.image_processing_lightning_seg")
    processor = remote.LightningSegImageProcessor(None, channels)
    [planes] = processor(picture)["pixel_values"]
    return np.rint(planes.transpose(1, 2, 0) * 255).astype(np.uint8)


WAYS: dict[str, Callable[[Path, int], np.ndarray]] = {
    "path": as_picture,
    "upload": lambda path, n: read_picture(Path(path.name), n, path.read_bytes()),
    "PIL": lambda path, n: as_picture(Image.open(path), n),
    "PIL in memory": lambda path, n: as_picture(Image.open(io.BytesIO(path.read_bytes())), n),
    "processor": lambda path, n: processed(Image.open(path), n),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", READ)
def test_a_picture_is_read_alike_however_it_comes(tmp_path: Path, name: str, way: str) -> None:
    picture, options, shown = READ[name]
    path = save(tmp_path / name, picture, options)
    assert np.array_equal(WAYS[way](path, 3), shown())
    assert np.array_equal(WAYS[way](path, 1), read_picture(path, 1))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_is_refused_alike_however_it_comes(tmp_path: Path, name: str, way: str) -> None:
    picture, options, sentence = REFUSED[name]
    path = save(tmp_path / name, picture, options)
    with pytest.raises(InputError, match=sentence):
        WAYS[way](path, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_colours_of_16_bits_are_refused_though_pillow_would_cut_them(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), SCENE.astype(np.uint16) * 16)
    for way in ("path", "PIL", "processor"):
        with pytest.raises(InputError, match=r"more than 8 bits|cannot be decoded|no readable"):
            WAYS[way](path, 3)


@pytest.mark.parametrize("read", [as_picture, processed])
def test_arrays_and_tensors_are_pictures_of_8_bits(read: Callable[..., np.ndarray]) -> None:
    for given in (SCENE, torch.from_numpy(SCENE).permute(2, 0, 1), CLEAR):
        assert np.array_equal(read(given, 3), SCENE)
    grey = SCENE[..., :1]
    for given in (grey, grey[..., 0], torch.from_numpy(grey[..., 0]), torch.from_numpy(grey.T)):
        found = read(given, 1)
        assert np.array_equal(found if found.shape == grey.shape else found.swapaxes(0, 1), grey)
    for wrong in (SCENE / 255, torch.rand(3, 8, 8), SCENE[None], SCENE.astype(np.uint16), HOLED):
        with pytest.raises(InputError, match=r"is no picture|transparent"):
            read(wrong, 3)


def test_previews_behind_a_photograph_and_small_copies_are_no_pages(tmp_path: Path) -> None:
    photo, small = Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::2, ::2])
    photo.save(tmp_path / "a.mpo", save_all=True, append_images=[small])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg", 3).shape == SMOOTH.shape
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "b.tif"), True) as file:
        for page, kind in ((photo, 0), (small, 1)):
            page.save(file, format="TIFF", tiffinfo={254: kind})
            file.newFrame()
    assert getattr(Image.open(tmp_path / "b.tif"), "n_frames") == 2  # noqa: B009
    assert read_picture(tmp_path / "b.tif", 3).shape == SMOOTH.shape


def test_a_small_copy_before_a_photograph_is_not_read_in_its_place(tmp_path: Path) -> None:
    photo, small = Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::2, ::2])
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "a.tif"), True) as file:
        for page, kind in ((small, 1), (photo, 0)):
            page.save(file, format="TIFF", tiffinfo={254: kind})
            file.newFrame()
    with pytest.raises(InputError, match="holds 2 pages or frames"):
        read_picture(tmp_path / "a.tif", 3)


def test_the_picture_that_is_given_stays_as_it_is() -> None:
    image = Image.fromarray(SCENE)
    image.getexif()[0x0112] = 6
    before = image.tobytes(), image.size
    assert as_picture(image, 3).shape == (SHAPE[1], SHAPE[0], 3)
    assert (image.tobytes(), image.size) == before
