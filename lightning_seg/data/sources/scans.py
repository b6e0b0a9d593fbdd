"""Anyone's own scans: a table of NIfTI volumes or DICOM series and their segmentations.

The table is that of the data set `folder` (see ``base.tables``): ``image`` and ``mask`` name NIfTI
files of any name, ``image`` also the folder of a DICOM series. ``lightning-seg data adopt`` writes
one. Samples are slices in the patient's axial plane.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from lightning_seg.data.reading.dicom import check_whole_series, series_as_nifti
from lightning_seg.data.sources.base.labels import label_values
from lightning_seg.data.sources.base.scans import OfScans, ScanSource, Slices
from lightning_seg.data.sources.base.tables import TableRow, read_table
from lightning_seg.data.store.folders import default_folder
from lightning_seg.data.store.planes import Scan, settings
from lightning_seg.errors import InputError
from lightning_seg.files import whole
from lightning_seg.files.leftovers import part_folder
from lightning_seg.files.states import file_state

_HIGHEST = 255  # label


class Scans(ScanSource):
    """The slices of the volumes that a table names.

    Args:
        root: the table, a CSV file.
        classes: the names of the classes.
        labels: for each class its number in the segmentation, or a list of them; a number may
            stand for several classes (tumour inside liver: ``[[1, 2], 2]``). None: 1, 2, ...
        background: further numbers that belong to no class, besides 0. Any other is an error.
        window: the values that become black and white, of CT in HU; or ``percentiles``: those of
            each scan's own 0.5 and 99.5 percentile, as for MRI.
        in_channels: 1 for slices alone; 3 for one neighbour on each side (2.5-D), 5, ...
        spacing: mm between slices, rows and columns, to which scans are resampled; None keeps
            their own.
        pad: pixels on both sides to which slices are padded with black.
        slices: what an epoch of training visits: ``all``; ``organ``, those that show a class; or
            ``{tumour: 0.5}``, all, those that show it repeated until they are this share.
        align: ``headers``: InputError where those of a pair turn the axes differently. ``voxels``:
            pair them one by one.
    """

    classes: tuple[str, ...] = ("foreground",)
    default_protocol: ClassVar[str] = "auto"

    def __init__(
        self,
        root: Path | None = None,
        classes: Sequence[str] = ("foreground",),
        labels: Sequence[int | Sequence[int]] | None = None,
        background: Sequence[int] = (),
        window: Sequence[float] | Literal["percentiles"] = "percentiles",
        in_channels: int = 1,
        spacing: Sequence[float] | None = None,
        pad: int | None = None,
        slices: Slices = "all",
        align: Literal["headers", "voxels"] = "headers",
    ) -> None:
        if root is None or not root.is_file():
            raise InputError(
                f"scans: the root is {str(root)!r}; give a table, a CSV file of id,image,mask."
            )
        numbers = label_values(classes, labels) or [[1]]
        legal = frozenset(number for group in numbers for number in group) | {0, *background}
        if max(legal) > _HIGHEST:
            raise InputError(f"labels holds {max(legal)}; numbers of scans end at {_HIGHEST}.")
        table = read_table(root)
        check_whole_series([row.image for row in table.rows.values() if row.image.is_dir()])
        scans = {id: _scan_of(id, row, align, legal) for id, row in table.rows.items()}
        chosen = settings(window, in_channels, spacing, pad)
        named = dict(zip(classes, numbers, strict=True))
        groups = {id: row.group for id, row in table.rows.items()}
        super().__init__(scans, named, chosen, slices, groups=groups)
        self.leaks = table.leaks
        self.assigned = {id: row.split for id, row in table.rows.items() if row.split}
        self.columns = OfScans({id: dict(row.further) for id, row in table.rows.items()})


def _scan_of(id: str, row: TableRow, align: str, legal: frozenset[int]) -> Scan:
    if len(row.masks) != 1:
        raise InputError(
            f"scan {id!r} has {len(row.masks)} segmentations; give it one, with a number for each "
            "class."
        )
    image = nifti_of_series(row.image) if row.image.is_dir() else row.image
    return Scan(image, row.masks[0], _HIGHEST, align, legal)


def nifti_of_series(folder: Path) -> Path:
    """A DICOM series as NIfTI in the cache folder; converted anew where a file has changed."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    states = [(path.name, *file_state(path)) for path in files]
    what = repr((str(folder.resolve()), states))
    digest = hashlib.sha256(what.encode()).hexdigest()[:16]
    target = default_folder() / "dicom" / f"{folder.name}-{digest}.nii"
    if not target.exists():
        with whole(target) as part, part_folder(target) as scratch:
            series_as_nifti(folder, scratch).file.rename(part)
    return target
