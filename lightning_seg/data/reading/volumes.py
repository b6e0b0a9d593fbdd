"""Volumes in NIfTI files: reading, and the canonical frame.

The canonical frame is that in which slices are looked at: axes (slice, row, column) that run to the
patient's head, back and left (S, P, L), so that a slice shows the patient from the feet, front up.
Axes are permuted and flipped, never interpolated: of an oblique volume they run to the nearest of
these directions. A voxel's value is exact.
"""

import gzip
import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg.errors import InputError

CANONICAL = ("S", "P", "L")
Affine = NDArray[np.float64]
_MM_OF_UNIT = {1: 1000.0, 3: 0.001}  # xyzt_units: metres, microns; others are taken for mm
_SIDES = 0.001, 100.0  # mm, between which the sides of voxels lie
CHECKSUM_WITHIN = 1 << 16  # bytes behind the voxels of a packed file
_SHEAR = 0.001  # share of a voxel's volume by which its sides may miss a right angle


@dataclass(frozen=True)
class Grid:
    """The header of a NIfTI file: the lattice of its voxels, without their values.

    Args:
        affine: in mm, whatever the unit of the file.
        doubts: what the header leaves open, in words.
    """

    shape: tuple[int, int, int]
    affine: Affine
    path: Path
    doubts: tuple[str, ...] = ()

    @property
    def doubt(self) -> str:
        """All doubts in one line."""
        return "; ".join(self.doubts)

    @property
    def orientation(self) -> str:
        """The directions of the axes, such as ``LPS``."""
        return axis_codes(self.affine, self.path)

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        return _permuted(self.shape, self.affine)

    @property
    def canonical_spacing(self) -> tuple[float, float, float]:
        """Between slices, rows and columns, in mm; of slices that are shifted against each other,
        between their planes."""
        slices, rows, columns = _permuted(_sides(self.affine), self.affine)
        if _is_sheared(self.affine):
            slices = _voxel_volume(self.affine) / (rows * columns)
        return slices, rows, columns


def _sides(affine: Affine) -> list[float]:
    sides: list[float] = np.sqrt((affine[:3, :3] ** 2).sum(0)).tolist()
    return sides


def _voxel_volume(affine: Affine) -> float:
    return float(abs(np.linalg.det(affine[:3, :3])))


def _is_sheared(affine: Affine) -> bool:
    """Tell whether the axes meet at other angles than right ones, as under a tilted gantry."""
    return _voxel_volume(affine) < (1 - _SHEAR) * math.prod(_sides(affine))


def farthest_corner(first: Grid, second: Grid) -> float:
    """The distance, in mm, between the places that two headers give a voxel, at the farthest
    corner."""
    last = np.array(first.shape) - 1
    corners = np.array(list(itertools.product((0, 1), repeat=3))) * last
    places = np.column_stack([corners, np.ones(len(corners))])
    apart = places @ (first.affine - second.affine)[:3].T
    return float(np.linalg.norm(apart, axis=1).max())


def _doubts(grid: Grid, image: Any) -> tuple[str, ...]:
    """What a header leaves open, in words."""
    return tuple(filter(None, (_place_doubt(grid, image), _unit_doubt(grid, image))))


def _unit_doubt(grid: Grid, image: Any) -> str:
    if _unit_code(image):
        return ""
    return (
        f"{grid.path} does not say in which unit its voxels are measured (xyzt_units is 0): "
        "millimetres are taken, and ml follow from them"
    )


def _place_doubt(grid: Grid, image: Any) -> str:
    """The orientation, which of two is meant, or slices that are shifted."""
    header = image.header
    if not header["sform_code"] and not header["qform_code"]:
        return (
            f"{grid.path} does not say where its axes run (sform_code and qform_code are 0): they are "
            f"taken to run to {grid.orientation}, and its voxels to have the sides in pixdim"
        )
    if header["sform_code"] and header["qform_code"]:
        # the quaternion holds no shear
        other = replace(grid, affine=image.get_qform() * _in_millimetres(image))
        apart = 0.0 if _is_sheared(grid.affine) else farthest_corner(grid, other)
        if apart > max(grid.canonical_spacing):
            return (
                f"{grid.path} places its voxels twice, by sform and by qform, up to {apart:.3g} mm "
                "apart; the sform is taken"
            )
    if _is_sheared(grid.affine):
        return (
            f"{grid.path} has slices that are shifted against each other, as under a tilted gantry: "
            "ml and mm are those between their planes"
        )
    return ""


def _in_millimetres(image: Any) -> NDArray[np.float64]:
    """Factors of the rows of an affine."""
    factor = _MM_OF_UNIT.get(_unit_code(image), 1.0)
    return np.array([[factor], [factor], [factor], [1.0]])


def _unit_code(image: Any) -> int:
    """Of lengths: 0 where it is not said, 1 metres, 2 millimetres, 3 microns."""
    return int(image.header["xyzt_units"]) % 8


def axis_codes(affine: Affine, path: Path) -> str:
    """The directions of the axes: ``LPS`` for left, posterior, superior; InputError where the
    affine leaves an axis out."""
    import nibabel

    finite = bool(np.isfinite(affine).all())  # nibabel fails on others
    codes = nibabel.aff2axcodes(affine) if finite else ()
    if not finite or None in codes:
        raise InputError(
            f"{path} has an affine that gives an axis no direction; correct its header."
        )
    return "".join(codes)


def to_canonical(array: np.ndarray, affine: Affine) -> np.ndarray:
    """(I, J, K) of a file with this affine as (slices, rows, columns): a view."""
    import nibabel

    return nibabel.orientations.apply_orientation(array, _canonical_turn(affine))


def _canonical_turn(affine: Affine) -> np.ndarray:
    import nibabel

    own, canonical = nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(CANONICAL)
    return nibabel.orientations.ornt_transform(own, canonical)


def _permuted(values: Sequence[Any], affine: Affine) -> Any:
    places = _canonical_turn(affine)[:, 0].astype(int)  # axis -> its place in the canonical frame
    return tuple(values[places.tolist().index(place)] for place in range(3))


def read_grid(path: Path) -> Grid:
    """The lattice of a NIfTI file, from its header alone; InputError for a damaged file or one that
    is not 3-D."""
    image = _open_nifti(path)
    shape = _three(image.shape, path)
    axis_codes(image.affine, path)
    grid = Grid(shape, image.affine * _in_millimetres(image), path)
    sides = grid.canonical_spacing
    if not _SIDES[0] <= min(sides) <= max(sides) <= _SIDES[1]:
        shown = " x ".join(f"{side:g}" for side in sides)
        raise InputError(
            f"{path} says that its voxels have {shown} mm; correct the unit (xyzt_units) or the "
            "affine of its header."
        )
    return replace(grid, doubts=_doubts(grid, image))


def read_volume(path: Path) -> np.ndarray:
    """The voxels (I, J, K) of a NIfTI file (.nii, .nii.gz), as they lie in it; float32 where it has
    a scale, else the type as stored.

    InputError for a damaged or truncated file, one that is not 3-D, and values that are not finite.
    """
    image = _open_nifti(path)
    shape = _three(image.shape, path)
    try:
        array = _voxels(image, path)
    except (OSError, EOFError, ValueError, ArithmeticError, TypeError, zlib.error) as error:
        raise InputError(
            f"{path} cannot be decoded ({_error_reason(error)}); fetch or copy this file again."
        ) from error
    array = array.reshape(shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(
            f"{path} holds NaN or infinity in {count} of {array.size} voxels; convert the scan again."
        )
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{path} holds values of the type {array.dtype}, not one number a voxel; convert it."
        )
    return array


def _voxels(image: Any, path: Path) -> np.ndarray:
    """All values of an opened file; of a packed one also its checksum, which stands behind them."""
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    kind = np.float32 if scaled else None
    if not path.name.lower().endswith(".nii.gz"):
        return np.asarray(image.dataobj, kind)
    with gzip.open(path) as packed:
        array = np.asarray(type(image).from_stream(packed).dataobj, kind)
        packed.read(CHECKSUM_WITHIN)
    return array


def read_labels_volume(path: Path) -> np.ndarray:
    """Read as `read_volume` does, of whole numbers from 0 to 255, as uint8; InputError for other
    values."""
    array = read_volume(path)
    low, high = array.min(), array.max()
    if low < 0 or high > 255 or (array.dtype.kind == "f" and (array != np.rint(array)).any()):
        raise InputError(
            f"{path} holds values from {low:g} to {high:g} that are no label numbers (whole, 0 to 255); restore the file, "
            "or see that volumes and segmentations are not exchanged."
        )
    return array.astype(np.uint8, copy=False)


def _open_nifti(path: Path) -> Any:
    import nibabel

    if not path.is_file():
        raise InputError(f"{path} does not exist; restore the file.")
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Pair):
            raise ValueError(f"{type(image).__name__}, not NIfTI")
        voxels: Any = image.dataobj
        single = isinstance(image, nibabel.Nifti1Image)
        if single and voxels.offset < image.header.single_vox_offset:
            raise ValueError(f"its voxels would begin within its header, at {voxels.offset}")
        return image
    except (
        OSError,
        EOFError,
        ValueError,
        ArithmeticError,
        TypeError,
        zlib.error,
        gzip.BadGzipFile,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
    ) as error:
        raise InputError(
            f"{path} is no readable volume ({_error_reason(error)}); fetch or copy this file again."
        ) from error


def _error_reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].strip()


def _three(
    shape: tuple[int, ...],
    path: Path,
) -> tuple[int, int, int]:
    if len(shape) < 3 or 0 in shape or any(length > 1 for length in shape[3:]):
        raise InputError(
            f"{path} has the shape {shape}, not that of one volume (I, J, K); extract one volume from it."
        )
    return shape[0], shape[1], shape[2]
