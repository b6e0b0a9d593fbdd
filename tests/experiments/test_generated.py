"""Recipes whose data are given after registration, or are large, run on generated data of their layout."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from benchmarks.volumes import write_scan
from lightning_seg import cli
from lightning_seg.data.splits import load_protocol

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SHAPE = (32, 36)
OUTLINE = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((4, 4), (28, 6), (12, 27)))
REGION = f"<Region><Vertices>{OUTLINE}</Vertices></Region>"
XML = f"<Annotations><Annotation><Regions>{REGION}</Regions></Annotation></Annotations>"


def _ids(protocol: str) -> list[str]:
    return [id for ids in load_protocol(protocol).ids.values() for id in ids]


def _blob() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[6:20, 8:24] = 1
    return mask


def _photograph(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (*shape, 3), dtype=np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_stare(root: Path) -> None:
    # as large as the owners', whose size the recipe keeps
    mask = np.zeros((605, 700), np.uint8)
    mask[::9] = 255
    for number, id in enumerate(_ids("stare-16-4")):
        _save(root / "images" / f"{id}.ppm", _photograph(number, mask.shape))
        _save(root / "labels-ah" / f"{id}.ah.ppm", mask)


def write_glas(root: Path) -> None:
    for number, id in enumerate(_ids("glas")):
        _save(root / f"{id}.bmp", _photograph(number))
        _save(root / f"{id}_anno.bmp", _blob())


def write_monuseg(root: Path) -> None:
    for number, id in enumerate(_ids("monuseg")):
        _save(root / "Tissue Images" / f"{id}.tif", _photograph(number))
        (root / "Tissue Images" / f"{id}.xml").write_text(XML)


def write_clinicdb(root: Path) -> None:
    for number, id in enumerate(_ids("clinicdb-459-153")):
        _save(root / "Original" / f"{id}.tif", _photograph(number))
        _save(root / "Ground Truth" / f"{id}.tif", 255 * _blob())


def write_synapse(root: Path) -> None:
    generator = np.random.default_rng(0)
    ct = generator.integers(-400, 500, (24, 20, 3)).astype(np.int16)
    organs = generator.integers(0, 14, (24, 20, 3)).astype(np.uint8)
    affine = np.diag([-0.7, 0.7, 3.0, 1.0])
    for part, values in (("img", ct), ("label", organs)):
        folder = root / "RawData" / "Training" / part
        folder.mkdir(parents=True)
        for id in _ids("synapse-18-12"):
            nibabel.Nifti1Image(values, affine).to_filename(folder / f"{part}{id}.nii.gz")


def write_lits(root: Path) -> None:
    root.mkdir()
    for number in range(131):
        write_scan(root, number, (3, 20, 24))


SMALL_DCA = "{skip: dca, widths: [4, 8, 16, 16, 16]}"
SMALL_PAM = "{attention: pla, regularizer: 0.01, last_width: 32}"
CASES: list[tuple[str, Callable[[Path], None], list[str]]] = [
    ("sa_unet_v2_stare", write_stare, ["--model.options", "{widths: [8, 8]}"]),
    ("dca_unet_glas", write_glas, ["--data.size", "32", "--model.options", SMALL_DCA]),
    ("dca_unet_monuseg", write_monuseg, ["--data.size", "32", "--model.options", SMALL_DCA]),
    ("dca_unet_clinicdb", write_clinicdb, ["--data.size", "32", "--model.options", SMALL_DCA]),
    ("dca_unet_synapse", write_synapse, ["--data.size", "32", "--model.options", SMALL_DCA]),
    ("pam_unet_lits_80_20", write_lits, ["--data.size", "32", "--model.options", SMALL_PAM]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "write", "options"), CASES, ids=[case[0] for case in CASES])
def test_a_recipe_trains_on_generated_data(
    recipe: str,
    write: Callable[[Path], None],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    write(tmp_path / "data")
    short = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1}
    place = ["--runs", str(tmp_path / "runs"), "--data.root", str(tmp_path / "data")]
    trainer = [part for key, value in short.items() for part in (f"--trainer.{key}", str(value))]
    args = [*place, *trainer, "--trainer.accelerator", "cpu", "--data.num_workers", "0"]
    cli.main(["fit", "-c", str(EXPERIMENTS / f"{recipe}.yaml"), *args, *options])
    assert list((tmp_path / "runs").rglob("last*.ckpt"))
