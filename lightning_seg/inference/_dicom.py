"""A DICOM series as a NIfTI file: one whole series of slices at equal distances, or a sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_seg.errors import InputError

_TOLERANCE = 0.02  # of the distance of slices, by which it may vary; headers are rounded


def series_as_nifti(folder: Path, scratch: Path) -> Path:
    """The series of a folder as a file in ``scratch``; this takes all of it into memory once.

    InputError for a folder of no series or several, and one that lacks slices.
    """
    try:
        import SimpleITK
    except ImportError:
        raise InputError(
            f"{folder} holds DICOM files, which SimpleITK reads: pip install SimpleITK."
        ) from None
    reader = SimpleITK.ImageSeriesReader()
    names = reader.GetGDCMSeriesIDs(str(folder))
    series = {name: reader.GetGDCMSeriesFileNames(str(folder), name) for name in names}
    if not series:
        raise InputError(
            f"{folder} holds DICOM files, but no series of slices; give the folder of one CT "
            "series."
        )
    if len(series) > 1:
        listing = ", ".join(f"{name} ({len(files)} files)" for name, files in series.items())
        raise InputError(
            f"{folder} holds {len(series)} DICOM series: {listing}; put each into a folder of its "
            "own."
        )
    [files] = series.values()
    _check_slices(folder, files, SimpleITK)
    target = scratch / "dicom.nii"
    try:
        reader.SetFileNames(files)
        SimpleITK.WriteImage(reader.Execute(), str(target))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"the DICOM series in {folder} cannot be read ({reason}); copy it again."
        ) from error
    return target


def _check_slices(
    folder: Path,
    files: Sequence[str],
    itk: Any,
) -> None:
    """InputError where slices are missing or lie twice, by their positions."""
    positions = np.array([_position(file, itk) for file in files])
    if len(positions) < 3 or np.isnan(positions).any():
        return
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - usual) > _TOLERANCE * max(usual, 1e-6))
    if len(odd):
        found = f"{steps[odd[0]]:.2f} mm between its slices {odd[0] + 1} and {odd[0] + 2}"
        raise InputError(
            f"the DICOM series in {folder} has {len(files)} slices {usual:.2f} mm apart, but "
            f"{found}: "
            "slices are missing or of another series; copy the whole series again."
        )


def _position(file: str, itk: Any) -> list[float]:
    """The place of the first voxel in mm; NaN where the header has none."""
    reader = itk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
        return [float(value) for value in reader.GetMetaData("0020|0032").split("\\")]
    except (RuntimeError, ValueError):
        return [float("nan")] * 3
