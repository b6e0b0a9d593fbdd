"""A DICOM series as a NIfTI file: one whole series of slices at equal distances, or a sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.errors import InputError

_TOLERANCE = 0.02  # of the distance of slices, by which it may vary; headers are rounded
_GAP = 1.5  # of their thickness, from which on slices may be missing
_SHIFT = 0.05  # of that distance, by which slices may be shifted; then ml are 0.1 % off
# what all slices of a series share, and what must stand in each of them
_ALIKE = {"Rows": "0028|0010", "Columns": "0028|0011"}
_PLACED = {"ImageOrientationPatient": "0020|0037", "PixelSpacing": "0028|0030"}
_POSITION = "0020|0032"
_THICKNESS = "0018|0050"
_NUMBER = "0020|0013"
_MODALITY = "0008|0060"
_INTERCEPT = "0028|1052"
_PHOTOMETRIC = "0028|0004"
_ONE = {"NumberOfFrames": "0028|0008", "SamplesPerPixel": "0028|0002"}


class Series(NamedTuple):
    """A series as a NIfTI file.

    Args:
        doubt: why its values may be no Hounsfield units, or its ml no ml, in words.
        is_scaled: whether its headers say how its values become those of the modality.
        slices: its files, in the order of the slices of ``file``.
    """

    file: Path
    doubt: str
    is_scaled: bool
    slices: tuple[Path, ...]


def series_as_nifti(folder: Path, scratch: Path) -> Series:
    """The series of a folder as a file in ``scratch``; this takes all of it into memory once.

    InputError for a folder of no series or several, one that lacks slices, and one whose slices
    do not say where they lie.
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
    headers = [_Header(file, SimpleITK) for file in files]
    _check_fields(folder, headers)
    _check_scales(folder, headers)
    _check_places(folder, headers)
    target = scratch / "dicom.nii"
    try:
        reader.SetFileNames(files)
        image = reader.Execute()
        if len(files) == 1 and headers[0].thickness:
            image.SetSpacing((*image.GetSpacing()[:2], headers[0].thickness))
        SimpleITK.WriteImage(image, str(target))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(
            f"the DICOM series in {folder} cannot be read ({reason}); copy it again."
        ) from error
    is_scaled = all(_is_scaled(header) for header in headers)
    return Series(target, _doubt(folder, headers), is_scaled, tuple(map(Path, files)))


def check_whole_series(folders: Sequence[Path]) -> None:
    """InputError where one series lies in several of the folders: each would be read as a whole
    one, at a wrong distance of slices."""
    if len(folders) < 2:
        return
    try:
        import SimpleITK
    except ImportError:
        # reading a series says so
        return
    homes: dict[str, Path] = {}
    for folder in folders:
        for uid in _series_in(folder, SimpleITK):
            other = homes.setdefault(uid, folder)
            if other != folder:
                raise InputError(
                    f"{other} and {folder} hold slices of one DICOM series (SeriesInstanceUID "
                    f"{uid}); put all of them into one folder, or take a copy away."
                )


def _series_in(folder: Path, itk: Any) -> set[str]:
    """The SeriesInstanceUIDs of a folder, of all its files."""
    return set(itk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


class _Header:
    """The fields of one file, as text."""

    def __init__(self, file: str, itk: Any) -> None:
        self.name = Path(file).name
        self._reader = itk.ImageFileReader()
        self._reader.SetFileName(file)
        try:
            self._reader.ReadImageInformation()
        except RuntimeError as error:
            raise InputError(f"{file} is no readable DICOM file; copy it again.") from error

    def text(self, tag: str) -> str:
        """The value of a field; empty where it is absent."""
        reader = self._reader
        return reader.GetMetaData(tag).strip(" \0") if reader.HasMetaDataKey(tag) else ""

    def numbers(self, tag: str) -> np.ndarray:
        """The numbers of a field; none where one of them is no number."""
        try:
            return np.array([float(part) for part in self.text(tag).split("\\")])
        except ValueError:
            return np.empty(0)

    @property
    def thickness(self) -> float:
        """Of the slice in mm; 0 where it is not said."""
        return float(max(self.numbers(_THICKNESS), default=0))


def _check_fields(folder: Path, headers: Sequence[_Header]) -> None:
    """InputError for files of several frames or of colours, for slices that do not say where they
    lie, and for those that are unlike."""
    first = headers[0]
    for name, tag in _ONE.items():
        odd = [header for header in headers if header.text(tag) not in ("", "1")]
        if odd:
            raise InputError(
                f"{folder / odd[0].name} has the {name} {odd[0].text(tag)}, where one grey slice a "
                "file is read; convert it to NIfTI."
            )
    counts = {_POSITION: 3, _PLACED["ImageOrientationPatient"]: 6, _PLACED["PixelSpacing"]: 2}
    for name, tag in (_PLACED | {"ImagePositionPatient": _POSITION}).items():
        odd = [header for header in headers if len(header.numbers(tag)) != counts[tag]]
        if odd:
            raise InputError(
                f"{folder / odd[0].name} has no {name}, without which it is not known where its "
                "slice lies and how large its pixels are; export the series again, or convert it "
                "to NIfTI."
            )
    for name, tag in (_ALIKE | _PLACED).items():
        same = first.numbers(tag)
        odd = [header for header in headers if not _alike(header.numbers(tag), same)]
        if odd:
            raise InputError(
                f"{folder / odd[0].name} has the {name} {odd[0].text(tag)}, but "
                f"{first.name} of the same series {first.text(tag)}; put slices of one kind into a "
                "folder of their own."
            )


def _check_scales(folder: Path, headers: Sequence[_Header]) -> None:
    """InputError where some slices say how their values become HU, and others do not."""
    lacking = [header for header in headers if not header.text(_INTERCEPT)]
    if 0 < len(lacking) < len(headers):
        raise InputError(
            f"{folder / lacking[0].name} has no RescaleIntercept, which other slices of the "
            f"series have ({len(lacking)} of {len(headers)} lack it): its values are of another "
            "scale; copy or export the series again."
        )


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and np.allclose(first, second, rtol=1e-3, atol=1e-3)


def _check_places(folder: Path, headers: Sequence[_Header]) -> None:
    """InputError where slices are missing or lie twice, or are shifted against each other, by their
    positions."""
    if len(headers) < 2:
        return
    ways = np.diff([header.numbers(_POSITION) for header in headers], axis=0)
    steps = np.linalg.norm(ways, axis=1)
    usual = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - usual) > _TOLERANCE * max(usual, 1e-6))
    if len(odd):
        found = f"{steps[odd[0]]:.2f} mm between its slices {odd[0] + 1} and {odd[0] + 2}"
        raise InputError(
            f"the DICOM series in {folder} has {len(headers)} slices {usual:.2f} mm apart, but "
            f"{found}: "
            "slices are missing or of another series; copy the whole series again."
        )
    across = headers[0].numbers(_PLACED["ImageOrientationPatient"])
    normal = np.cross(across[:3], across[3:])
    shifts = np.linalg.norm(ways - np.outer(ways @ normal, normal), axis=1)
    if shifts.max() > _SHIFT * usual:
        raise InputError(
            f"the slices of the DICOM series in {folder} are shifted against each other by "
            f"{shifts.max():.2f} mm, as under a tilted gantry; convert it to NIfTI with a program "
            "that keeps the tilt, such as dcm2niix."
        )


def _is_scaled(header: _Header) -> bool:
    return bool(header.text(_INTERCEPT)) and header.text(_PHOTOMETRIC) == "MONOCHROME2"


def _distance(headers: Sequence[_Header]) -> float:
    """Of the first two slices, in mm; 0 of a single one."""
    if len(headers) < 2:
        return 0.0
    way = headers[1].numbers(_POSITION) - headers[0].numbers(_POSITION)
    return float(np.linalg.norm(way))


def _doubt(folder: Path, headers: Sequence[_Header]) -> str:
    modality = headers[0].text(_MODALITY)
    if modality != "CT":
        return (
            f"the DICOM series in {folder} is of the modality {modality or 'that is not said'}, "
            "not CT: its values are no Hounsfield units"
        )
    if lacking := _lacking_numbers(headers):
        return (
            f"the DICOM series in {folder} has no slice of the InstanceNumber {lacking}: a part of "
            "it may be missing"
        )
    thick = headers[0].thickness
    if len(headers) == 1 and not thick:
        return f"{folder} holds one slice of unknown thickness: its ml are those of 1 mm"
    apart = _distance(headers)
    if thick and apart > _GAP * thick:
        return (
            f"the DICOM series in {folder} has slices of {thick:g} mm that lie {apart:.3g} mm apart: "
            "every other one may be missing; the distance is taken"
        )
    return ""


def _lacking_numbers(headers: Sequence[_Header]) -> str:
    """Numbers of slices between 1 and the highest that no header has, in words; empty where they
    are not told, or are those of several acquisitions."""
    numbers = [header.numbers(_NUMBER) for header in headers]
    found = {int(number[0]) for number in numbers if len(number) == 1}
    if len(found) < len(headers) or min(found) < 1:
        return ""
    lacking = sorted({*range(1, max(found) + 1)} - found)
    if not lacking:
        return ""
    return f"{lacking[0]} to {lacking[-1]}" if len(lacking) > 1 else f"{lacking[0]}"
