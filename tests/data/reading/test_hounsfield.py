"""A CT whose values are no Hounsfield units is refused; one in HU is not, however it is cut."""

from pathlib import Path

import numpy as np
import pytest

from lightning_seg.data.reading.hounsfield import check_hounsfield, sampled_slices
from lightning_seg.errors import InputError

WINDOW = (-200.0, 250.0)


def body() -> np.ndarray:
    """Air around fat around soft tissue with some bone, with noise."""
    rows, columns = np.mgrid[-1:1:96j, -1:1:96j]
    radius = np.hypot(rows, columns)
    slice_ = np.select([radius < 0.08, radius < 0.6, radius < 0.75], [700, 50, -100], -1000)
    noise = np.random.default_rng(0).normal(0, 12, (6, 96, 96))
    return np.maximum(slice_ + noise, -1024).astype(np.int16)


FORMS = {
    "stored 1024 too high": lambda ct: ct + 1024,
    "with filled corners": lambda ct: np.where(ct < -1015, -2000, ct) + 1024,
    "stored 1024 too low": lambda ct: ct - 1024,
    "in 8 bits": lambda ct: ((np.clip(ct, -200, 250) + 200) / 450 * 255).astype(np.uint8),
    "with air at 1000": lambda ct: -ct,
    "times 10": lambda ct: ct.astype(np.int32) * 10,
    "divided by 1000": lambda ct: ct / 1000,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_ct_in_other_units_is_refused_with_what_was_found(form: str) -> None:
    values = FORMS[form](body())
    with pytest.raises(InputError, match=rf"ct\.nii holds values from {values.min():g} to"):
        check_hounsfield(values, WINDOW, Path("ct.nii"))


def test_hu_pass_whole_and_cut_and_so_does_a_window_that_fits_the_values() -> None:
    ct = body()
    for values in (
        ct,
        ct[:, 20:76, 20:76],
        np.where(ct < -1015, -3024, ct),
        np.where(ct < -1015, -32768, ct),
        np.zeros((2, 3, 3)),
    ):
        check_hounsfield(values, WINDOW, Path("ct.nii"))
    check_hounsfield(ct + 1024, (824, 1274), Path("ct.nii"))
    cut = np.clip(ct, 0, 255)
    check_hounsfield(cut, (0, 255), Path("ct.nii"))
    with pytest.raises(InputError, match="no Hounsfield units"):
        check_hounsfield(ct + 1024, (0, 255), Path("ct.nii"))


def test_a_few_slices_stand_for_a_volume() -> None:
    assert sampled_slices(3) == [0, 1, 2]
    assert sampled_slices(100)[::8] == [0, 99]
