"""CT volumes: memory while ever more scans are read at random, and the cost of one random slice.

The scans are generated, in LiTS's layout, small but many; each count is measured in a process of its own, which builds the
files of decoded slices, then reads slices at random as training does.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._section import Bars, Section

COUNTS, SMOKE_COUNTS = (1, 10, 100), (1, 2)
SHAPE, SMOKE_SHAPE = (64, 192, 192), (6, 24, 24)  # slices, rows, columns
READS, SMOKE_READS = 4000, 20
SIZE, SMOKE_SIZE = 256, 16


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results."""
    counts, shape, reads, size = (
        (SMOKE_COUNTS, SMOKE_SHAPE, SMOKE_READS, SMOKE_SIZE)
        if smoke
        else (COUNTS, SHAPE, READS, SIZE)
    )
    lines = [
        "| scans | files of decoded slices, MB | peak memory, MB | random slice, ms | 2.5-D, ms |",
        "|---|---|---|---|---|",
    ]
    rows: list[dict[str, Any]] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                write_scan(Path(folder), number, shape)
            found = in_a_process(Path(folder), reads, size)
        rows.append({"scans": count, **found})
        times = " | ".join(
            f"{found[name][1]:.3f} [{found[name][0]:.3f}, {found[name][2]:.3f}]"
            for name in ("1", "3")
        )
        lines.append(f"| {count} | {found['disk']:.0f} | {found['peak']:.0f} | {times} |")
    caption = (
        f"Generated scans of {shape[0]} slices of {shape[1]} x {shape[2]}, as `.nii.gz`, read at {size} x {size}. Peak resident "
        f"memory of a process that decodes them all and then reads {reads} random slices; median [quartiles] of one slice, image "
        "and masks of liver and tumour, in 2-D and with both neighbours (2.5-D)."
    )
    peaks = {f"{row['scans']} scans": [row["peak"]] for row in rows}
    return Section(
        "\n".join([caption, "", *lines]), {"rows": rows}, {"peak": Bars("Peak memory", "MB", peaks)}
    )


def in_a_process(folder: Path, reads: int, size: int) -> dict[str, Any]:
    """What `measure` finds in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.volumes", str(folder), str(reads), str(size)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure(folder: Path, reads: int, size: int) -> dict[str, list[float] | float]:
    """Peak memory and disk in MB, and for 1 and 3 channels the quartiles of the time of a random slice in ms."""
    from lightning_seg.data.sources.lits import LiTS

    found: dict[str, list[float] | float] = {}
    for channels in (1, 3):
        source = LiTS(folder, in_channels=channels)
        ids = [id for scan in source.ids for id in source.expand(scan)]
        store = source.store(ids, (size, size), folder / "cache")
        seconds = []
        for index in np.random.default_rng(0).integers(len(store), size=reads).tolist():
            start = time.perf_counter()
            _ = store[index]
            seconds.append(time.perf_counter() - start)
        found[str(channels)] = (1000 * np.quantile(seconds, [0.25, 0.5, 0.75])).tolist()
    found["peak"] = _peak()
    found["disk"] = sum(path.stat().st_size for path in (folder / "cache").rglob("*.npy")) / 1e6
    return found


def _peak() -> float:
    """MB, of this process alone: `ru_maxrss` starts from that of the process which started it."""
    file = Path("/proc/self/status")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    own = [float(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def write_scan(
    folder: Path,
    number: int,
    shape: tuple[int, int, int] = SMOKE_SHAPE,
    orientation: str = "LAI",
    spacing: tuple[float, float, float] = (5.0, 0.8, 0.8),
    suffix: str = ".nii.gz",
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A body with a liver and a tumour in it, in LiTS's layout; HU and labels (slices, rows, columns), from the feet, front up.

    Args:
        orientation: where the axes of the files run to.
        spacing: mm between slices, rows and columns.
    """
    import nibabel

    ct, labels = draw_scan(number, shape)
    canonical = nibabel.orientations.axcodes2ornt("SPL")
    turn = nibabel.orientations.ornt_transform(
        canonical, nibabel.orientations.axcodes2ornt(orientation)
    )
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = np.array(spacing) * (1, -1, -1)  # S, P, L of an affine in RAS+
    affine[:, 3] = 20.5, -30.25, 100.0, 1
    affine = affine @ nibabel.orientations.inv_ornt_aff(turn, shape)
    folder.mkdir(parents=True, exist_ok=True)
    for part, values in (("volume", ct), ("segmentation", labels)):
        image = nibabel.Nifti1Image(nibabel.orientations.apply_orientation(values, turn), affine)
        image.header.set_xyzt_units("mm")
        image.to_filename(folder / f"{part}-{number}{suffix}")
    return ct, labels


def draw_scan(
    number: int, shape: tuple[int, int, int]
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU and labels (slices, rows, columns) of one generated patient."""
    rng = np.random.default_rng(number)
    z, y, x = (
        np.linspace(-1, 1, length).reshape([-1 if i == axis else 1 for i in range(3)])
        for axis, length in enumerate(shape)
    )
    body = (x / 0.9) ** 2 + (y / 0.7) ** 2 + 0 * z < 1
    liver = ((x + 0.35) / rng.uniform(0.35, 0.45)) ** 2 + ((y + 0.05) / 0.45) ** 2 + (
        (z - 0.1) / 0.7
    ) ** 2 < 1
    tumor = liver & ((x + 0.35) ** 2 + (y - rng.uniform(-0.2, 0.1)) ** 2 + (z - 0.1) ** 2 < 0.25**2)
    labels = liver.astype(np.uint8) + tumor
    ct = (
        np.array([-1000, 30])[body.astype(int)]
        + np.array([0, 80, 20])[labels]
        + rng.normal(0, 10, shape)
    )
    return ct.astype(np.int16), labels


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
