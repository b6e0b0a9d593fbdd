"""Fetch a data set from its owners: resumable download, safe extraction."""

import hashlib
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from lightning_seg.data._source import DATA_VARIABLE, source_class
from lightning_seg.errors import InputError, unknown

ARCHIVES = {"kvasir_seg": "https://datasets.simula.no/downloads/kvasir-seg.zip"}  # registry name -> the owners' URL
_CHUNK = 1 << 20
_BROKEN = (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile)  # what zipfile raises on bad archives


def fetch(name: str, root: Path | str | None = None, progress: bool = True) -> Path:
    """Download and extract the data set ``name`` below ``root`` (default: $LIGHTNING_SEG_DATA); its folder.

    Nothing is downloaded twice: an archive or folder that is already there is used as it is.
    """
    if name not in ARCHIVES:
        raise unknown("downloadable data set", name, ARCHIVES)
    place = root or os.environ.get(DATA_VARIABLE)
    if not place:
        raise InputError(f"no folder to download {name} to; give root or set {DATA_VARIABLE}.")
    url = ARCHIVES[name]
    archive = Path(place) / url.rpartition("/")[2]
    source = source_class(name)
    if not archive.is_file() and source.find_folder(Path(place)) is None:
        download(url, archive, progress=progress)
    folder: Path = source(Path(place)).folder
    return folder


def download(url: str, target: Path, sha256: str | None = None, progress: bool = True) -> Path:
    """Load ``url`` into ``target``, which appears only when it is complete and matches ``sha256`` (hex) where given.

    What an interrupted download got stays in ``<target>.part``; the next call goes on from there.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer(url, part, progress)
    except (OSError, HTTPException) as error:
        raise InputError(f"could not download {url} to {target.parent} ({error}); try again to go on.") from error
    if sha256 is not None:
        found = _sha256(part)
        if found != sha256.lower():
            part.unlink()
            raise InputError(f"{url} has the sha256 {found}, not {sha256}; the download was removed: fetch it again.")
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
    with response, _bar(progress) as bar:
        have = have if response.status == 206 else 0  # 200: the server sends everything again
        total = have + int(response.headers["Content-Length"]) if response.headers["Content-Length"] else None
        task = bar.add_task(part.stem, total=total, completed=have)
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.advance(task, len(chunk))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _bar(progress: bool) -> Progress:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress("{task.description}", *columns, disable=not progress)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def extract_zip(archive: Path, target: Path, check: Callable[[Path], None] | None = None) -> Path:
    """Extract into ``target``, which appears only when all is extracted and ``check(folder)`` has raised nothing.

    A single folder around everything is dropped. InputError for a damaged archive, for a member that would land outside
    the target, and for a symbolic link. If another process was faster, its ``target`` is kept.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            content = Path(scratch) / "content"
            _extract(archive, content)
            inner = [path for path in content.iterdir() if path.name != "__MACOSX"]
            folder = inner[0] if len(inner) == 1 and inner[0].is_dir() else content
            if check is not None:
                check(folder)
            try:
                folder.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    except _BROKEN as error:
        raise InputError(f"{archive} cannot be extracted to {target.parent} ({error}); fetch it again.") from error
    return target


def _extract(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            _refuse_unsafe(archive, member, folder)
        need, free = sum(member.file_size for member in members), shutil.disk_usage(folder.parent).free
        if need > free:
            raise InputError(f"{archive} needs {need >> 20} MiB where {free >> 20} MiB are free; make room.")
        folder.mkdir()
        file.extractall(folder)  # verifies each member's CRC


def _refuse_unsafe(archive: Path, member: zipfile.ZipInfo, folder: Path) -> None:
    # zipfile would strip "/" and ".." and write elsewhere in the target; an archive that tries is not worth trusting
    name = member.filename.replace("\\", "/")
    if not (folder / name).resolve().is_relative_to(folder.resolve()) or ":" in name.partition("/")[0]:
        raise InputError(f"{archive} holds the path {member.filename!r} outside its target; fetch the owners' file.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{archive} holds the symbolic link {member.filename!r}; fetch the owners' file.")
