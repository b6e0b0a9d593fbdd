"""Fetch a data set from its owners: resumable download, checksums, and what to do where only people
can get it."""

import hashlib
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lightning_seg.data.extract import extract
from lightning_seg.data.sources.base import DATA_VARIABLE, DATASETS, source_class
from lightning_seg.data.sources.base.origins import Archive, GuardedOrigin, Origin
from lightning_seg.errors import InputError, unknown

_CHUNK = 1 << 20


def origins(kind: type[Origin]) -> dict[str, Any]:
    """The data sets whose origin is of this kind, by name."""
    known = {name: getattr(source_class(name), "origin", None) for name in DATASETS}
    return {name: origin for name, origin in known.items() if isinstance(origin, kind)}


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
    if name not in DATASETS:
        raise unknown("downloadable data set", name, DATASETS)
    source = source_class(name)
    origin = getattr(source, "origin", None)
    if origin is None:
        raise InputError(f"{name} is not to be downloaded: it is made here, or of your own files.")
    if isinstance(origin, GuardedOrigin):
        below = root or f"${DATA_VARIABLE}"
        raise InputError(
            f"{name} is not to be had by program, {origin.reason}; put {origin.layout} below "
            f"{below}."
        )
    place = root or os.environ.get(DATA_VARIABLE)
    if not place:
        raise InputError(f"no folder to download {name} to; give root or set {DATA_VARIABLE}.")
    place = Path(place)
    folder = place / origin.folder
    if not _opens(source, place):
        for part in origin.archives:
            target = folder / part.folder
            if not target.is_dir():
                archive = _kept_archive(part, place, progress)
                if not origin.opened_by_source:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    extract(archive, target)
        source(place)  # says what is wrong, if it still does not open
    return folder if folder.is_dir() else place


def _opens(source: type[Any], place: Path) -> bool:
    try:
        source(place)
    except InputError:
        return False
    return True


def _kept_archive(part: Archive, place: Path, progress: bool) -> Path:
    """The archive below ``place``, downloaded where it is not there yet, with its checksum."""
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
    return archive


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
