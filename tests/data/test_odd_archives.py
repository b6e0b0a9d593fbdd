"""Archives of data sets whose insides are wrong: one sentence, and no folder; nothing damaged is taken for whole."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile

import pytest

from lightning_seg.data.extract import extract
from lightning_seg.errors import InputError

NOISE = random.Random(0).randbytes(5000)


def zipped(*names, packed=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as archive:
        for name in names:
            archive.writestr(name, NOISE)
    return file.getvalue()


def tar(*names, form=tarfile.PAX_FORMAT, content=NOISE, headers=None, **fields):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(content), headers or {}
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def changed(content, start, to):
    return content[:start] + to + content[start + len(to) :]


PAX = {
    "a name with a null": {"path": "a\0b"},
    "a name that leads outside": {"path": "../../evil"},
    "no time": {"mtime": "nan"},
    "the end of time": {"mtime": "inf"},
    "a size of 30 digits": {"size": "1" + "0" * 30},
    "a size that no disk has": {"size": "1" + "0" * 18},
    "holes at no place": {"GNU.sparse.map": "0,1,x,5", "GNU.sparse.size": "9"},
    "holes of a petabyte": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1" + "0" * 15},
}
ARCHIVES = {
    "names that are no UTF-8": zipped("ä.txt").replace("ä".encode(), b"\xff\xfe"),
    "an unknown compression": zipped("a.txt").replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"),
    "damaged, LZMA": changed(zipped("a.txt", packed=zipfile.ZIP_LZMA), 300, b"\xff" * 40),
    "damaged, bzip2": changed(zipped("a.txt", packed=zipfile.ZIP_BZIP2), 300, b"\xff" * 40),
    "a file that is a folder": zipped("a", "a/b"),
    "a folder that is a file": zipped("a/b", "a"),
    "a name of 300 letters": zipped("a" * 300),
    "2,000 folders in each other": zipped("a/" * 2000),
    "the folder itself": zipped("."),
    "a time of 22 digits": tar("a", form=tarfile.GNU_FORMAT, mtime=2**70),
    "TAR, a file that is a folder": tar("a", "a/b"),
    "TAR, damaged gzip": changed(gzip.compress(tar("a")), 3000, b"\xff" * 40),
    "TAR, damaged bzip2": changed(bz2.compress(tar("a")), 3000, b"\xff" * 40),
    "TAR, damaged xz": changed(lzma.compress(tar("a")), 3000, b"\xff" * 40),
    "TAR, a bomb behind its end": gzip.compress(tar("a") + bytes(10**8)),
    **{f"TAR, {name}": tar("a", headers=headers) for name, headers in PAX.items()},
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_wrong_inside_is_a_sentence(tmp_path, name):
    home = tmp_path / "home"
    home.mkdir()
    content = ARCHIVES[name]
    file = home / ("x.zip" if content.startswith(b"PK") else "x.tar")
    file.write_bytes(content)
    with pytest.raises(
        InputError, match=rf"{file.name} (cannot be extracted|holds|needs|goes on)"
    ) as caught:
        extract(file, home / "target")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*")) == [home, file]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_archives_as_programs_write_them_are_extracted(tmp_path, pack):
    (tmp_path / "x.tar").write_bytes(pack(tar("a", "b/c") + bytes(10_240)))
    target = extract(tmp_path / "x.tar", tmp_path / "target")
    assert (target / "a").read_bytes() == (target / "b/c").read_bytes() == NOISE
