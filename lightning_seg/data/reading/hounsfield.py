"""Whether the values of a CT are Hounsfield units: air is -1000, fat about -100, water 0."""

from pathlib import Path

import numpy as np

from lightning_seg.errors import InputError

_FAT = -60  # fat, lung and air lie below it in every CT
_LEAST_BELOW = 0.001  # share of the voxels
_LEAST_WITHIN = 0.005  # of them inside the window
_NO_TISSUE = 500  # HU from which a window shows bone alone
_MOST_BONE = 0.25
_NOTHING, _MOST_NOTHING = -5000, 0.01
LOOKED_AT = 9  # slices that stand for a volume


def check_hounsfield(
    values: np.ndarray,
    window: tuple[float, float],
    path: Path,
) -> None:
    """InputError where values are not HU though the window expects it.

    Args:
        values: of the volume, or of some of its slices. The lowest one, with which scanners fill
            corners, does not count.
        window: the lowest and highest HU that are looked at.
        path: of the file, for the sentence.
    """
    low, high = window
    counted = values[values > values.min()]
    # a window that was chosen for other values, or that holds all that were cut to it
    fits = low >= _NO_TISSUE or (low >= 0 and values.max() <= high)
    if fits or not counted.size:
        return
    span = f"{path} holds values from {values.min():g} to {values.max():g}"
    if np.mean(counted < _FAT) < _LEAST_BELOW:
        raise InputError(
            f"{span} and hardly any below {_FAT}, where fat and air lie: they are no Hounsfield "
            "units (stored 1024 too high, or in 8 bits); convert it from DICOM with slope and "
            f"intercept, or give the window in its own values instead of {low:g} to {high:g}."
        )
    if np.mean(counted > _NO_TISSUE) > _MOST_BONE:
        raise InputError(
            f"{span}, over {_MOST_BONE:.0%} of them above {_NO_TISSUE}, where bone and metal lie: "
            "they are no Hounsfield units (inverted, or stored too high); convert it from DICOM "
            "with slope and intercept."
        )
    # what scanners fill corners with lies above or at the end of 16 bits
    if np.mean((counted > -32000) & (counted < _NOTHING)) > _MOST_NOTHING:
        raise InputError(
            f"{span}, many of them below {_NOTHING}, where nothing lies: they are no Hounsfield "
            "units (another slope); convert it from DICOM with slope and intercept."
        )
    if np.mean((counted >= low) & (counted <= high)) < _LEAST_WITHIN:
        raise InputError(
            f"{span}, hardly any of them within the window of {low:g} to {high:g} HU; convert it "
            "from DICOM with slope and intercept, or give the window that fits."
        )


def sampled_slices(count: int) -> list[int]:
    """The places of slices, evenly spread, that stand for a volume of ``count``."""
    places = np.linspace(0, count - 1, min(count, LOOKED_AT))
    return sorted({int(place) for place in places})
