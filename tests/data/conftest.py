"""Small data sets in the owners' layouts, drawn by the tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.sources.base import Sample

MakeKvasir = Callable[..., Path]


def disc(height: int, width: int, row: float, column: float, radius: float) -> np.ndarray:
    """(H, W) bool."""
    rows, columns = np.mgrid[:height, :width]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def write_pair(folder: Path, stem: str, height: int = 60, width: int = 80) -> None:
    """A reddish frame with a bright disc, and the disc's mask; both JPEG, as Kvasir-SEG has them."""
    rng = np.random.default_rng(list(stem.encode()))
    inside = disc(
        height, width, height * rng.uniform(0.3, 0.7), width * rng.uniform(0.3, 0.7), height / 4
    )
    image = rng.normal((150, 70, 60), 5, (height, width, 3)) + 60 * inside[..., None]
    for part, pixels in {"images": image.clip(0, 255), "masks": 255 * inside}.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / part / f"{stem}.jpg", quality=90)


@pytest.fixture
def make_kvasir() -> MakeKvasir:
    """Writes ``<parent>/Kvasir-SEG`` with the given stems and returns it."""

    def make(parent: Path, stems: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
        for position, stem in enumerate(stems):
            write_pair(parent / "Kvasir-SEG", stem, 60 + 4 * position, 80)
        return parent / "Kvasir-SEG"

    return make


class FakeSource:
    """A source in memory that counts what is read."""

    classes = ("left", "right")
    in_channels = 3
    default_protocol = "fake"

    def __init__(self, count: int = 12, size: int = 32) -> None:
        self.ids = [f"s{index:02d}" for index in range(count)]
        self.groups = {id: id for id in self.ids}
        self.size, self.opened = size, set[str]()

    def read(self, id: str) -> Sample:
        self.opened.add(id)
        rng = np.random.default_rng(int(id[1:]))
        masks = [disc(self.size, self.size, *rng.uniform(8, self.size - 8, 2), 6) for _ in range(2)]
        image = rng.integers(0, 255, (self.size, self.size, 3), dtype=np.uint8)
        return Sample(image, np.stack(masks, axis=2).astype(np.uint8))


@pytest.fixture
def make_source() -> type[FakeSource]:
    return FakeSource
