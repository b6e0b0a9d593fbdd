"""Fetch a data set from its owners: resumable download, checksums, and what to do where only people
can get it."""

import hashlib
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lightning_seg.data.extract import extract
from lightning_seg.data.sources.base import DATA_VARIABLE, source_class
from lightning_seg.errors import InputError, unknown

_CHUNK = 1 << 20


class Part(NamedTuple):
    """An archive of the owners, and where in the data set's folder its content goes.

    sha256: None where no one has published it; then that of the first download is written beside
    it, and later ones must have the same.
    """

    url: str
    folder: str = ""
    sha256: str | None = None


_STARE = "http://cecas.clemson.edu/~ahoover/stare/probing"
ARCHIVES: dict[str, tuple[Part, ...]] = {  # registry name -> what its owners let anyone fetch
    "chase_db1": (Part("https://researchdata.kingston.ac.uk/96/1/CHASEDB1.zip"),),
    "kvasir_seg": (
        Part("https://datasets.simula.no/downloads/kvasir-seg.zip"),
    ),  # checked file by file when extracted
    "kvasir_sessile": (Part("https://datasets.simula.no/downloads/kvasir-sessile.zip"),),
    "stare": (
        Part(
            f"{_STARE}/stare-images.tar",
            "stare-images",
            "5f7b509b6067cad4f1be84933145d783de9ec087b3eaaf4db0103dd0144dd433",
        ),
        Part(
            f"{_STARE}/labels-ah.tar",
            "labels-ah",
            "ebf2f1e17ca955f24579d9edd990e2dae79a5c82def69f0985d8e24f826ddd2f",
        ),
        Part(
            f"{_STARE}/labels-vk.tar",
            "labels-vk",
            "47474a701536b0cfdb369fdce012be36141e9f44d80387f0179446b5cb0f5576",
        ),
    ),
}
FOLDERS = {
    "chase_db1": "CHASE_DB1",
    "kvasir_seg": "Kvasir-SEG",
    "kvasir_sessile": "sessile-main-Kvasir-SEG",
    "stare": "STARE",
}
BY_HAND = {  # registry name -> (why no program fetches it, the layout that is expected)
    "cvc_clinicdb": (
        "its owners give a RAR archive at https://polyp.grand-challenge.org/CVCClinicDB",
        "CVC-ClinicDB/Original/1.tif to 612.tif and CVC-ClinicDB/Ground Truth/1.tif to 612.tif",
    ),
    "drive": (
        "its owners ask for registration at https://drive.grand-challenge.org",
        "DRIVE/training/ and DRIVE/test/, each with images/*.tif, 1st_manual/*.gif and mask/*.gif",
    ),
    "endotect": (
        "its owners give it on request",
        "EndoTect/images/*.jpg and EndoTect/masks/*, named alike",
    ),
    "glas": (
        "its owners ask for a login at https://warwick.ac.uk",
        "GlaS/train_1.bmp with GlaS/train_1_anno.bmp, and likewise testA_* and testB_*",
    ),
    "lits": (
        "its owners ask for registration at https://competitions.codalab.org/competitions/17094",
        "LiTS/volume-N.nii and LiTS/segmentation-N.nii (or .nii.gz), N from 0 to 130, or the two in the folders "
        "'Training Batch 1' and 'Training Batch 2'",
    ),
    "medico": (
        "its owners give it on request",
        "Medico/images/*.jpg and Medico/masks/*, named alike",
    ),
    "monuseg": (
        "its owners share it by Google Drive, linked at https://monuseg.grand-challenge.org",
        "MoNuSeg/Tissue Images/*.tif with MoNuSeg/Annotations/*.xml, and MoNuSeg/MoNuSegTestData/*.tif with *.xml",
    ),
    "pranet": (
        "its authors share it by Google Drive, linked in their repository PraNet",
        "PraNet/TrainDataset/{image,mask}/*.png and PraNet/TestDataset/<set>/{images,masks}/*.png",
    ),
    "synapse": (
        "its owners ask for registration at https://www.synapse.org/Synapse:syn3193805",
        "Synapse/img/img0001.nii.gz and Synapse/label/label0001.nii.gz to 0010 and 0021 to 0040 (RawData/Training of its archive)",
    ),
}


def fetch(
    name: str,
    root: Path | str | None = None,
    progress: bool = True,
) -> Path:
    """Download and extract the data set ``name`` below ``root`` (default: $LIGHTNING_SEG_DATA); its
    folder.

    Nothing is downloaded twice: an archive or folder that is already there is used as it is.
    InputError with the layout that is expected where only people can get it.
    """
    if name in BY_HAND:
        reason, layout = BY_HAND[name]
        raise InputError(
            f"{name} is not to be had by program, {reason}; put {layout} below {root or '$' + DATA_VARIABLE}."
        )
    if name not in ARCHIVES:
        raise unknown("downloadable data set", name, [*ARCHIVES, *BY_HAND])
    place = root or os.environ.get(DATA_VARIABLE)
    if not place:
        raise InputError(f"no folder to download {name} to; give root or set {DATA_VARIABLE}.")
    place, source = Path(place), source_class(name)
    folder = place / FOLDERS[name]
    if not _opens(source, place):
        for part in ARCHIVES[name]:
            if not (folder / part.folder).is_dir():
                _install(part, place, folder / part.folder, name, progress)
        source(place)  # says what is wrong, if it still does not open
    return folder if folder.is_dir() else place


def _opens(source: type[Any], place: Path) -> bool:
    try:
        source(place)
    except InputError:
        return False
    return True


def _install(
    part: Part,
    place: Path,
    target: Path,
    name: str,
    progress: bool,
) -> None:
    archive = place / unquote(part.url.rpartition("/")[2])
    record = archive.with_name(f"{archive.name}.sha256")
    known = part.sha256 or (
        record.read_text(encoding="utf-8").split()[0] if record.is_file() else None
    )
    if not archive.is_file():
        own = "" if part.sha256 else f", or delete {record} if its owners have changed it"
        download(part.url, archive, known, progress, own)
    elif known and _file_sha256(archive) != known:
        raise InputError(
            f"{archive} has not the sha256 {known}; remove it, and it is fetched again."
        )
    if known is None:
        record.write_text(f"{_file_sha256(archive)}  {archive.name}\n")
    if name != "kvasir_seg":  # whose class extracts the archive and checks every file
        target.parent.mkdir(parents=True, exist_ok=True)
        extract(archive, target)


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    progress: bool = True,
    other_cure: str = "",
) -> Path:
    """Load ``url`` into ``target``, which appears only when it is complete and matches ``sha256``
    (hex) where given.

    What an interrupted download got stays in ``<target>.part``; the next call goes on from there.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer(url, part, progress)
    except (OSError, HTTPException) as error:
        raise InputError(
            f"could not download {url} to {target.parent} ({error}); try again to go on."
        ) from error
    if sha256 is not None:
        found = _file_sha256(part)
        if found != sha256.lower():
            part.unlink()
            raise InputError(
                f"{url} has the sha256 {found}, not {sha256}; the download was removed: fetch it again{other_cure}."
            )
    part.replace(target)
    return target


def _transfer(url: str, part: Path, progress: bool) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # the part is the whole file already
        if error.code == 416:
            part.unlink()  # longer than the file: not a part of it
            return _transfer(url, part, progress)
        raise
    with response, _download_bar(progress) as bar:
        have = have if response.status == 206 else 0  # 200: the server sends everything again
        total = (
            have + int(response.headers["Content-Length"])
            if response.headers["Content-Length"]
            else None
        )
        task = bar.add_task(part.stem, total=total, completed=have)
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.advance(task, len(chunk))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _download_bar(progress: bool) -> Progress:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress("{task.description}", *columns, disable=not progress)


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
