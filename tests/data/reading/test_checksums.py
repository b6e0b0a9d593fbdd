"""Files that decode and are wrong all the same: checksums that fail, voxels that begin in the header."""

import gzip
import io
import struct
from contextlib import suppress

import nibabel
import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading.masks import read_mask
from lightning_seg.data.reading.volumes import read_grid, read_volume
from lightning_seg.errors import InputError
from lightning_seg.inference._nifti import SliceReader

VALUES = np.random.default_rng(0).integers(-1000, 900, (16, 16, 20)).astype(np.int16)


def content():
    return nibabel.Nifti1Image(VALUES, np.eye(4)).to_bytes()


def test_a_packed_volume_with_one_wrong_bit_is_refused(tmp_path):
    packed, file = gzip.compress(content(), mtime=0), tmp_path / "a.nii.gz"
    draw = np.random.default_rng(1)
    decoded = 0
    for place in draw.integers(1000, len(packed) - 8, 40):
        damaged = bytearray(packed)
        damaged[place] ^= 1 << int(draw.integers(8))
        file.write_bytes(damaged)
        try:  # without a look at the checksum
            decoded += np.asarray(nibabel.load(file).dataobj).shape == VALUES.shape
        except Exception:
            continue
        with pytest.raises(InputError, match=r"a\.nii\.gz cannot be decoded \(CRC check failed"):
            read_volume(file)
        with pytest.raises(InputError, match=r"a\.nii\.gz cannot be decoded \(CRC check failed"):
            SliceReader(file, tmp_path)
    assert decoded > 10


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_whole_packed_volumes_are_read_as_plain_ones(tmp_path, slope):
    whole = bytearray(content())
    whole[112:120] = struct.pack("<ff", slope, 3)
    (tmp_path / "a.nii").write_bytes(whole)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole))
    plain, packed = read_volume(tmp_path / "a.nii"), read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(plain, VALUES * np.float32(slope) + 3)
    np.testing.assert_array_equal(packed, plain)
    assert packed.dtype == plain.dtype


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_that_begin_within_the_header_are_refused(tmp_path, name):
    whole = bytearray(content())
    whole[108:112] = struct.pack("<f", 0)
    (tmp_path / name).write_bytes(gzip.compress(whole) if name.endswith("gz") else whole)
    for read in (read_volume, read_grid):
        with pytest.raises(InputError, match="would begin within its header, at 0"):
            read(tmp_path / name)


def test_a_png_with_one_wrong_bit_is_refused(tmp_path):
    triangle = (np.add.outer(np.arange(60), np.arange(70)) > 60).astype(np.uint8) * 255
    stored, file = io.BytesIO(), tmp_path / "a.png"
    Image.fromarray(triangle).save(stored, "png")
    file.write_bytes(stored.getvalue())
    np.testing.assert_array_equal(read_mask(file), triangle > 0)
    wrong = 0
    for place in range(60, len(stored.getvalue()) - 20):  # within its pixels
        damaged = bytearray(stored.getvalue())
        damaged[place] ^= 0x10
        file.write_bytes(damaged)
        with suppress(OSError), Image.open(file) as picture:  # without a look at the checksum
            wrong += not np.array_equal(np.asarray(picture), triangle)
        with pytest.raises(InputError, match=r"a\.png cannot be decoded \(the checksum of its pix"):
            read_mask(file)
    assert wrong > 10
