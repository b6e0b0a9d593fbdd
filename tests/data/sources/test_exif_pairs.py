"""An EXIF orientation of an image or its mask alone: read where the sizes tell how the mask lies,
else refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.sources.base.pairs import read_pair
from lightning_seg.errors import InputError

DRAW = np.random.default_rng(0)


def save(place: Path, array: np.ndarray, turn: int) -> Path:
    exif = Image.Exif()
    if turn != 1:
        exif[0x0112] = turn
    Image.fromarray(array).save(place, exif=exif)
    return place


def written(folder: Path, stored: tuple[int, int], mask: tuple[int, int], turns: tuple[int, int]):
    """Paths of an image stored with that shape and of its mask, each with an orientation."""
    image = DRAW.integers(0, 255, (*stored, 3), dtype=np.uint8)
    marked = np.zeros(mask, np.uint8)
    marked[: mask[0] // 3, : mask[1] // 4] = 255
    return save(folder / "a.png", image, turns[0]), save(folder / "a_mask.png", marked, turns[1])


@pytest.mark.parametrize("turn", [1, 3, 6])
def test_turned_alike_is_read_alike(tmp_path: Path, turn: int) -> None:
    sample = read_pair(*written(tmp_path, (20, 30), (20, 30), (turn, turn)))
    assert sample.image.shape[:2] == sample.mask.shape[:2]


def test_a_quarter_turn_is_told_by_the_sizes(tmp_path: Path) -> None:
    # the mask is of what a viewer shows
    sample = read_pair(*written(tmp_path, (20, 30), (30, 20), (6, 1)))
    assert sample.image.shape[:2] == (30, 20)
    assert sample.mask[0, 0, 0] == 1


@pytest.mark.parametrize(
    ("stored", "turns", "told"),
    [
        ((20, 30), (6, 1), "their sizes differ"),  # the mask is of the stored pixels
        ((20, 30), (1, 8), "their sizes differ"),
        ((24, 24), (6, 1), "is not known"),
        ((24, 24), (1, 6), "is not known"),
        ((20, 30), (3, 1), "is not known"),
        ((20, 30), (1, 2), "is not known"),
        ((20, 30), (6, 8), "is not known"),
    ],
)
def test_what_sizes_do_not_tell_is_refused(
    tmp_path: Path, stored: tuple[int, int], turns: tuple[int, int], told: str
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_pair(*written(tmp_path, stored, stored, turns))
    assert "save both upright" in str(caught.value)
