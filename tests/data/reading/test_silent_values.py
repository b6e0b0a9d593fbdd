"""Values of files that readers would take otherwise than they are shown, each refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading.deep import picture_form
from lightning_seg.data.reading.masks import read_labels, read_mask, read_nonzero
from lightning_seg.data.sources.folder import Folder
from lightning_seg.errors import InputError


def write_white_is_zero(path: Path, values: np.ndarray) -> None:
    """An uncompressed TIFF (H, W) of uint8 or uint16 that says: white is 0."""
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 8 * values.itemsize), (259, 1), (262, 0), (273, 0)]
    tags += [(277, 1), (278, height), (279, values.nbytes)]
    offset = 8 + 2 + 12 * len(tags) + 4
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, value in tags:
        head += struct.pack("<HHII", tag, 4, 1, offset if tag == 273 else value)
    path.write_bytes(head + struct.pack("<I", 0) + values.tobytes())


LESION = np.zeros((6, 8), bool)
LESION[1:3, 2:7] = True


@pytest.mark.parametrize("read", [read_mask, read_labels, read_nonzero])
def test_white_as_0_in_16_bits_is_refused_and_turned_in_8(tmp_path, read):
    file = tmp_path / "mask.tif"
    write_white_is_zero(file, np.where(LESION, 0, 65535).astype("<u2"))
    with pytest.raises(InputError, match="stores white as 0"):
        read(file)
    write_white_is_zero(file, np.where(LESION, 0, 255).astype(np.uint8))
    assert np.array_equal(read(file) > 0, LESION)


@pytest.mark.parametrize("kind", ["<u2", "u1"])
def test_white_as_0_is_not_read_by_a_window(tmp_path, kind):
    file = tmp_path / "image.tif"
    write_white_is_zero(file, np.where(LESION, 0, 200).astype(kind))
    with pytest.raises(InputError, match="stores white as 0"):
        picture_form(1, [0, 255]).read(file)
    if kind == "<u2":
        with Image.open(file) as picture, pytest.raises(InputError, match="stores white as 0"):
            picture_form(1, [0, 255]).take(picture)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": [255], "mask_threshold": 100}, "mask_threshold is 100, and labels say"),
        ({"labels": "nonzero", "mask_threshold": 100}, "mask_threshold is 100, and labels say"),
        ({"labels": [255], "background": [255]}, "give values that no class has"),
        ({"labels": [255.0]}, "the label 255.0 is neither"),
        ({"labels": [True]}, "the label True is neither"),
        ({"labels": [None]}, "the label None is neither"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, options, sentence):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.where(LESION, 255, 0).astype(np.uint8)).save(tmp_path / folder / "a.png")
    with pytest.raises(InputError, match=sentence):
        Folder(tmp_path, **options)


def write_tabled(folder: Path, rows: list[str]) -> Path:
    for name in "abc":
        Image.fromarray(np.full((6, 8, 3), ord(name), np.uint8)).save(folder / f"{name}.png")
        Image.fromarray(np.where(LESION, 255, 0).astype(np.uint8)).save(folder / f"{name}m.png")
    table = folder / "t.csv"
    table.write_text("\n".join(["id,image,mask", *rows]) + "\n")
    return table


def test_a_row_that_was_left_out_by_a_mark_is_refused(tmp_path):
    table = write_tabled(tmp_path, ["a,a.png,am.png", "# b,b.png,bm.png"])
    with pytest.raises(InputError, match="as if it were left out by #"):
        Folder(table)


def test_a_mask_of_two_pictures_is_doubted(tmp_path):
    own = [f"{name},{name}.png,{name}m.png" for name in "abc"]
    assert Folder(write_tabled(tmp_path, own)).doubts == ()
    copied = [own[0], "b,b.png,am.png", "c,c.png,am.png"]
    (doubt,) = Folder(write_tabled(tmp_path, copied)).doubts
    assert doubt == "t.csv gives 'b' the mask of 'a', and so 1 further picture"
