"""Pictures that their files turn, and what a window would lose in silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from lightning_seg.data.reading.conversion import picture_array
from lightning_seg.data.reading.deep import picture_form, stored_channels
from lightning_seg.data.reading.masks import read_labels, read_mask
from lightning_seg.data.reading.pictures import read_grey
from lightning_seg.errors import InputError

TAG = 274
DEEP = np.random.default_rng(0).integers(0, 4096, (12, 20), dtype=np.uint16)
# what a viewer shows of an array under each orientation of EXIF, as its standard draws them
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a[::-1].T,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a[:, ::-1].T,
}


@pytest.mark.parametrize("orientation", SHOWN)
def test_a_window_reads_a_turned_file_as_a_viewer_shows_it(
    tmp_path: Path, orientation: int
) -> None:
    tags = [(TAG, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="minisblack", extratags=tags)
    exif = Image.Exif()
    exif[TAG] = orientation
    Image.fromarray(DEEP).save(tmp_path / "a.png", exif=exif)
    for name in ("a.tif", "a.png"):
        found = stored_channels(tmp_path / name)[..., 0]
        np.testing.assert_array_equal(found, SHOWN[orientation](DEEP))


@pytest.mark.parametrize("orientation", SHOWN)
def test_a_turned_tiff_is_read_alike_however_it_is_packed(tmp_path: Path, orientation: int) -> None:
    grey = (DEEP // 16).astype(np.uint8)
    given: dict[str, Any] = {"tiffinfo": {TAG: orientation}}
    for packed in ("raw", "tiff_lzw"):
        place = tmp_path / f"{packed}.tif"
        Image.fromarray(grey).save(place, compression=packed, **given)
        shown = SHOWN[orientation](grey)
        np.testing.assert_array_equal(read_grey(place)[..., 0], shown)
        np.testing.assert_array_equal(read_labels(place), shown)
        # a picture that someone else opened
        np.testing.assert_array_equal(picture_array(Image.open(place), 1)[..., 0], shown)
    Image.fromarray((grey > 99).astype(np.uint8)).save(tmp_path / "mask.tif", **given)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), SHOWN[orientation](grey > 99))


def test_what_a_window_would_lose_is_refused(tmp_path: Path) -> None:
    import cv2

    form = picture_form(3, [0, 4095])
    colours = np.repeat(DEEP[..., None], 3, axis=2)
    cv2.imwrite(str(tmp_path / "deep.png"), colours)
    with pytest.raises(InputError, match="more than 8 bits, of which Pillow reads 8"):
        form.read(tmp_path / "deep.png")
    # the same values in a file that is read whole
    tifffile.imwrite(tmp_path / "deep.tif", colours)
    assert len(np.unique(form.read(tmp_path / "deep.tif"))) > 100
    light = (colours // 16).astype(np.uint8)
    Image.fromarray(light).save(tmp_path / "light.png")
    with pytest.raises(InputError, match="has 8 bits, and the window"):
        form.read(tmp_path / "light.png")
    with pytest.raises(InputError, match="has 8 bits, and the window"):
        form.take(light)
    clear = np.dstack([light, np.zeros(light.shape[:2], np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    frames = [Image.fromarray(light), Image.fromarray(light[::-1])]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    own = picture_form(3, [0, 255])
    for name, told in (("clear.png", "transparent pixels"), ("two.gif", "2 pages or frames")):
        with pytest.raises(InputError, match=told):
            own.read(tmp_path / name)
