"""NIfTI files slice by slice, read and written: memory does not grow with their number."""

import gzip
import math
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lightning_seg.data.reading.volumes import CHECKSUM_WITHIN, read_grid, to_canonical
from lightning_seg.errors import InputError
from lightning_seg.files.leftovers import part_name

_CHUNK = 1 << 16
_BEST_RATIO = 1032  # of deflate: a byte packs no more than this many


class SliceReader:
    """The slices of a NIfTI file in the canonical frame (see ``data.reading.volumes``), read when
    asked for.

    Args:
        path: ``.nii``, or ``.nii.gz``, which is unpacked first.
        scratch: a folder for the unpacked file.

    Errors: InputError for a damaged file, or values that are not finite.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        import nibabel

        self.grid = read_grid(path)
        self.path = path
        packed = path.name.lower().endswith(".gz")
        plain = _unpacked(path, scratch) if packed else _checked_size(path)
        self.image: Any = nibabel.load(
            plain, mmap=False
        )  # mapped pages would count as memory of the process
        orientation = nibabel.io_orientation(self.grid.affine)
        self._axis = int(
            np.flatnonzero(orientation[:, 0] == 2)[0]
        )  # of the file, from feet to head or back
        self._falls = orientation[self._axis, 1] < 0

    def __len__(self) -> int:
        return self.grid.canonical_shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """(rows, columns), in HU where the file holds a CT."""
        if not 0 <= index < len(self):
            raise IndexError(f"slice {index} of {len(self)}")
        place: list[Any] = [slice(None)] * 3 + [0] * (len(self.image.shape) - 3)
        first = len(self) - 1 - index if self._falls else index
        place[self._axis] = slice(first, first + 1)
        try:
            plane = to_canonical(np.asarray(self.image.dataobj[tuple(place)]), self.grid.affine)[0]
        except (OSError, EOFError, ValueError, ArithmeticError, TypeError) as error:
            raise InputError(
                f"{self.path} ends before slice {index}; fetch or copy this file again."
            ) from error
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            raise InputError(
                f"{self.path} holds NaN or infinity in slice {index}; convert the scan again."
            )
        if plane.dtype.kind not in "fiu":
            raise InputError(
                f"{self.path} holds values of the type {plane.dtype}, not one number a voxel; "
                "convert it."
            )
        return plane


def _claimed_bytes(path: Path) -> int:
    """The bytes that a file must have, by its header, to hold its voxels."""
    import nibabel

    voxels: Any = nibabel.load(path).dataobj  # type: ignore[attr-defined]
    count = math.prod(int(side) for side in voxels.shape)
    return int(voxels.offset) + count * voxels.dtype.itemsize


def _checked_size(path: Path) -> Path:
    claimed, found = _claimed_bytes(path), path.stat().st_size
    if found < claimed:
        raise InputError(
            f"{path} has {found} bytes, but its header announces voxels for {claimed}; fetch or "
            "copy this file again."
        )
    return path


def check_room(folder: Path, count: int, path: Path) -> None:
    """InputError where ``count`` bytes for the results of ``path`` do not fit on the disk of
    ``folder``."""
    free = shutil.disk_usage(folder).free
    if count > free:
        raise InputError(
            f"{path} needs {count / 1e9:.1f} GB in {folder} while it is predicted, where "
            f"{free / 1e9:.1f} GB are free; give another --output."
        )


def _unpacked(path: Path, scratch: Path) -> Path:
    target, claimed = scratch / "unpacked.nii", _claimed_bytes(path)
    if claimed > _BEST_RATIO * path.stat().st_size:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes, too few for the {claimed} that its header "
            "announces; fetch or copy this file again."
        )
    check_room(scratch, claimed, path)
    try:
        with gzip.open(path) as packed, target.open("wb") as file:
            left = claimed  # whatever follows the voxels is of no use
            while left and (chunk := packed.read(min(left, _CHUNK))):
                file.write(chunk)
                left -= len(chunk)
            if left:
                raise EOFError(f"{claimed - left} of {claimed} bytes")
            packed.read(CHECKSUM_WITHIN)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} cannot be decoded ({error}); fetch or copy this file again."
        ) from error
    return target


class SliceFile:
    """A volume in a file of bytes that is filled slice by slice, to become a NIfTI file like the
    one that was read.

    Args:
        file: to be made; its room on the disk is taken at once.
        like: the volume whose shape, affine and header it has.
        kind: of its values, ``np.uint8`` or ``np.float32``.
    """

    def __init__(self, file: Path, like: SliceReader, kind: DTypeLike) -> None:
        self.path, self.like = file, like
        self.kind = np.dtype(kind).newbyteorder(like.image.header.endianness)
        shape = like.grid.shape
        size = self.kind.itemsize * int(np.prod(shape, dtype=np.int64))
        with file.open("wb+") as opened:
            os.posix_fallocate(
                opened.fileno(), 0, size
            )  # a full disk is an error here, and a crash below
            self._pages = mmap.mmap(opened.fileno(), size)
        stored = np.frombuffer(self._pages, self.kind).reshape(shape, order="F")
        self._stored, self._slices = stored, to_canonical(stored, like.grid.affine)

    def __setitem__(self, index: int, plane: np.ndarray) -> None:
        self._slices[index] = plane
        self._release()

    def __getitem__(self, index: int) -> np.ndarray:
        plane = np.array(self._slices[index])
        self._release()
        return plane

    def __iter__(self) -> Iterator[np.ndarray]:
        for plane in self._slices:
            yield np.array(plane)
            self._release()

    def __array__(
        self,
        dtype: Any = None,
        copy: bool | None = None,
    ) -> np.ndarray:
        """(slices, rows, columns), all of it."""
        return np.array(self._slices, dtype)

    def as_stored(self) -> np.ndarray:
        """(I, J, K) in the order of the file, all of it."""
        return np.array(self._stored)

    def _release(self) -> None:
        """The pages stay in the file; the process gives up its view of them, which would count as
        its memory."""
        self._pages.madvise(mmap.MADV_DONTNEED)

    def save(self, path: Path) -> None:
        """Write NIfTI, ``.nii.gz``, with the affine and header of the volume that was read; whole
        or not at all."""
        self._pages.flush()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = part_name(path)
        try:
            with (
                part.open("wb") as target,
                # neither time nor name, so that the same masks are the same file
                gzip.GzipFile("", "wb", 1, target, mtime=0) as packed,
                self.path.open("rb") as file,
            ):
                _write_header(packed, self.like.image, self.kind)
                shutil.copyfileobj(file, packed, _CHUNK)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _write_header(
    file: gzip.GzipFile,
    image: Any,
    kind: np.dtype[Any],
) -> None:
    """Write the header of ``image``, for values of another kind."""
    header = image.header.copy()
    header.set_data_dtype(kind)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # of the CT's grey values
    header.write_to(file)
    file.write(b"\0" * (header.get_data_offset() - file.tell()))
