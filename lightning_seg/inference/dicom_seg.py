"""The masks of a DICOM series as a DICOM Segmentation, written by highdicom."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_seg import __version__
from lightning_seg.errors import InputError
from lightning_seg.files import whole

FOLDER = "dicom_seg"
_MAKER = "lightning_seg"
_SERIES_NUMBER = 900  # far from those of a scanner
_LONGEST = 64  # characters of a label (LO)


def dicom_seg_file(folder: Path, name: str) -> Path:
    """The segmentation of a series: ``dicom_seg/<name>.dcm``."""
    return folder / FOLDER / f"{name}.dcm"


def require_highdicom() -> Any:
    """The library highdicom; InputError where it is not installed."""
    try:
        import highdicom
    except ImportError:
        raise InputError(
            "--dicom_seg needs highdicom, which is not installed: "
            "pip install 'lightning_seg[dicom-seg]'."
        ) from None
    return highdicom


def write_dicom_seg(
    path: Path,
    masks: NDArray[np.bool_],
    classes: Sequence[str],
    slices: Sequence[Path],
) -> None:
    """Write one binary segment for each class, which refers to the slices of its series.

    Args:
        masks: (K, slices, rows, columns), in the order and orientation of ``slices``; they may
            overlap.
        classes: the names of the segments, which are numbered from 1.
        slices: the files of the series; a slice without any mask has no frame.

    Raises:
        InputError: highdicom is not installed, or the headers of the series lack what a
            segmentation refers to.
    """
    highdicom = require_highdicom()
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    try:
        content = highdicom.seg.Segmentation(
            source_images=[_header(pydicom, file) for file in slices],
            pixel_array=masks.transpose(1, 2, 3, 0).astype(np.uint8),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_segments(highdicom, classes),
            series_instance_uid=highdicom.UID(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=_MAKER,
            manufacturer_model_name=_MAKER,
            software_versions=__version__,
            device_serial_number="0",
            series_description=f"Masks of {_MAKER}",
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"the DICOM series in {slices[0].parent} cannot be referred to by a DICOM-SEG "
            f"({reason}); its masks are in NIfTI. Complete the headers, or leave out --dicom_seg."
        ) from error
    with whole(path) as part:
        content.save_as(part)


def _header(pydicom: Any, file: Path) -> Any:
    """The header of a slice, without what it calls SpacingBetweenSlices: that is often not the
    distance of the positions, which highdicom takes where it is absent."""
    found = pydicom.dcmread(file, stop_before_pixels=True)
    found.pop("SpacingBetweenSlices", None)
    return found


def _segments(highdicom: Any, classes: Sequence[str]) -> list[Any]:
    """Descriptions by name alone: what a class means in a terminology is not known here."""
    from pydicom.sr.codedict import codes

    made_by = highdicom.AlgorithmIdentificationSequence(
        name=_MAKER,
        version=__version__,
        family=codes.DCM.ArtificialIntelligence,
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:_LONGEST],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
        )
        for number, name in enumerate(classes, start=1)
    ]
