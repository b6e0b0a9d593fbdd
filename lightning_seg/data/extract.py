"""Extract archives that came from elsewhere: nothing outside the target, no links, all or
nothing."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.files.leftovers import part_folder

_MOST_PADDING = 2**26  # bytes behind the last member of a TAR
_BROKEN = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)  # what bad archives raise


def extract(
    archive: Path,
    target: Path,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Extract a ZIP or TAR into ``target``, which appears only when all is extracted and
    ``check(folder)`` has raised nothing.

    A single folder around everything is dropped. InputError for a damaged archive, for a member
    that would land outside the target, and for a link or device. If another process was faster, its
    ``target`` is kept.
    """
    unpack = (
        _extract_zip if zipfile.is_zipfile(archive) or archive.suffix == ".zip" else _extract_tar
    )
    try:
        with part_folder(target) as scratch:
            content = scratch / "content"
            unpack(archive, content)
            inner = [path for path in content.iterdir() if path.name != "__MACOSX"]
            folder = inner[0] if len(inner) == 1 and inner[0].is_dir() else content
            if check is not None:
                check(folder)
            try:
                folder.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    except InputError:
        raise
    except _BROKEN as error:
        # tarfile says line by line what each kind of compression makes of it
        cause = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise InputError(
            f"{archive} cannot be extracted to {target.parent} ({cause}); fetch it again."
        ) from error
    return target


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            _refuse_unsafe(
                archive,
                member.filename,
                folder,
                "symbolic link" if stat.S_ISLNK(member.external_attr >> 16) else "",
            )
        _make_room(archive, sum(member.file_size for member in members), folder)
        file.extractall(folder)  # verifies each member's CRC


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        members = file.getmembers()
        for member in members:
            _refuse_unsafe(
                archive,
                member.name,
                folder,
                "" if member.isfile() or member.isdir() else "link or device",
            )
        _make_room(archive, sum(member.size for member in members), folder)
        # Python before 3.11.4 has no filters; all members are files and folders inside, see above
        filtered: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        file.extractall(folder, **filtered)
        _check_end(archive, file)


def _check_end(archive: Path, file: tarfile.TarFile) -> None:
    """Read on to the end, where a compressed TAR has its checksum."""
    if file.fileobj is not None and len(file.fileobj.read(_MOST_PADDING + 1)) > _MOST_PADDING:
        raise InputError(f"{archive} goes on behind its last member; fetch the owners' file.")


def _refuse_unsafe(
    archive: Path,
    name: str,
    folder: Path,
    kind: str,
) -> None:
    # zipfile would strip "/" and ".." and write elsewhere in the target; an archive that tries is not worth trusting
    path = name.replace("\\", "/")
    if (
        not (folder / path).resolve().is_relative_to(folder.resolve())
        or ":" in path.partition("/")[0]
    ):
        raise InputError(
            f"{archive} holds the path {name!r} outside its target; fetch the owners' file."
        )
    if kind:
        raise InputError(f"{archive} holds the {kind} {name!r}; fetch the owners' file.")


def _make_room(archive: Path, need: int, folder: Path) -> None:
    free = shutil.disk_usage(folder.parent).free
    if need > free:
        raise InputError(
            f"{archive} needs {need >> 20} MiB where {free >> 20} MiB are free; make room."
        )
    folder.mkdir()
