"""Downloads from a local server, and archives that are not what they should be."""

import gzip
import hashlib
import io
import re
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import DATASETS, fetch
from lightning_seg.data.download import download, origins
from lightning_seg.data.extract import extract
from lightning_seg.data.sources.base.origins import GuardedOrigin, PublicOrigin
from lightning_seg.data.sources.kvasir_seg import KvasirSEG
from lightning_seg.data.sources.stare import STARE
from lightning_seg.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves ``files``; understands Range unless told otherwise; can break off after some bytes."""

    files: ClassVar[dict[str, bytes]] = {}
    ranges = True
    break_after: ClassVar[int | None] = None
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        content, wanted = self.files.get(self.path), self.headers.get("Range")
        Handler.seen.append(wanted)
        if content is None:
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0  # type: ignore[index]
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.break_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {
        "files": {"/data.bin": CONTENT},
        "ranges": True,
        "break_after": None,
        "seen": [],
    }.items():
        monkeypatch.setattr(Handler, name, value)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_whole_and_checked(server: str, tmp_path: Path) -> None:
    target = download(
        f"{server}/data.bin", tmp_path / "new" / "data.bin", DIGEST.upper(), progress=False
    )
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["data.bin"]


def test_an_interrupted_download_goes_on_where_it_stopped(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "break_after", 1_000_000)
    with pytest.raises(InputError, match="1000000 of 3000000 bytes"):
        download(f"{server}/data.bin", tmp_path / "data.bin", DIGEST, progress=False)
    assert not (tmp_path / "data.bin").exists()
    monkeypatch.setattr(Handler, "break_after", None)
    download(f"{server}/data.bin", tmp_path / "data.bin", DIGEST, progress=False)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert Handler.seen == [None, "bytes=1000000-"]


def test_a_server_without_ranges_sends_everything_again(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "ranges", False)
    (tmp_path / "data.bin.part").write_bytes(b"begun")
    assert (
        download(f"{server}/data.bin", tmp_path / "data.bin", progress=False).read_bytes()
        == CONTENT
    )


def test_a_part_that_is_the_whole_file_is_taken(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert (
        download(f"{server}/data.bin", tmp_path / "data.bin", DIGEST, progress=False).read_bytes()
        == CONTENT
    )


def test_a_part_that_is_longer_than_the_file_is_dropped(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
    assert (
        download(f"{server}/data.bin", tmp_path / "data.bin", DIGEST, progress=False).read_bytes()
        == CONTENT
    )


def test_a_wrong_checksum_leaves_nothing_behind(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has the sha256 {DIGEST}, not {'0' * 64}"):
        download(f"{server}/data.bin", tmp_path / "data.bin", "0" * 64, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_file_and_an_unreachable_server_are_sentences(
    server: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"could not download .*gone.* \(HTTP Error 404"):
        download(f"{server}/gone", tmp_path / "gone", progress=False)
    with pytest.raises(InputError, match=r"could not download .*refused"):
        download("http://127.0.0.1:9/data.bin", tmp_path / "data.bin", progress=False)


def test_the_progress_bar_reaches_its_end(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download(f"{server}/data.bin", tmp_path / "data.bin", DIGEST)
    assert "3.0/3.0 MB" in capsys.readouterr().out


def archive(path: Path, *members: str | zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, b"content")
    return path


@pytest.mark.parametrize(
    "members",
    [
        ("Set/a.txt", "Set/sub/b.txt"),
        ("a.txt", "sub/b.txt"),
        ("S/a.txt", "S/sub/b.txt", "__MACOSX/._a"),
    ],
)
def test_an_archive_is_extracted_without_its_outer_folder(
    tmp_path: Path, members: tuple[str, ...]
) -> None:
    target = extract(archive(tmp_path / "x.zip", *members), tmp_path / "target")
    assert (target / "a.txt").read_bytes() == b"content"
    assert sorted(path.name for path in target.iterdir()) == ["a.txt", "sub"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target", "x.zip"]


@pytest.mark.parametrize(
    "member", ["../evil.txt", "Set/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_a_member_outside_the_target_is_refused_before_anything_is_written(
    tmp_path: Path, member: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(InputError, match="outside its target"):
        extract(archive(home / "x.zip", "good.txt", member), home / "target")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["home", "x.zip"]


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InputError, match="symbolic link 'link'"):
        extract(archive(tmp_path / "x.zip", link), tmp_path / "target")


@pytest.mark.parametrize("damage", ["truncated", "no archive", "wrong content"])
def test_a_damaged_archive_leaves_no_target(tmp_path: Path, damage: str) -> None:
    path = archive(tmp_path / "x.zip", "a.txt", "b.txt")
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated": whole[:60],
            "no archive": b"<html>",
            "wrong content": whole.replace(b"content", b"CONTENT"),
        }[damage]
    )
    with pytest.raises(InputError, match=r"x\.zip cannot be extracted"):
        extract(path, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_failing_check_leaves_no_target(tmp_path: Path) -> None:
    def check(folder: Path) -> None:
        raise InputError("not the data set")

    with pytest.raises(InputError, match="not the data set"):
        extract(archive(tmp_path / "x.zip", "a.txt"), tmp_path / "target", check)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_the_folder_of_a_faster_process_is_kept(tmp_path: Path) -> None:
    def other_process_finishes(folder: Path) -> None:
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "theirs").touch()

    extract(archive(tmp_path / "x.zip", "a.txt"), tmp_path / "target", other_process_finishes)
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["theirs"]


def test_only_data_sets_with_a_known_address_can_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        InputError, match="no downloadable data set named 'kvasir'; did you mean 'kvasir_seg'"
    ):
        fetch("kvasir", tmp_path)
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    with pytest.raises(InputError, match="give root or set LIGHTNING_SEG_DATA"):
        fetch("kvasir_seg")
    assert KvasirSEG.origin.archives[0].url.startswith("https://datasets.simula.no/")


def tar(members: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for info in others:
            file.addfile(info)
    return buffer.getvalue()


def test_a_tar_is_extracted_as_a_zip_is(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar({"Set/a.txt": b"content", "Set/sub/b.txt": b"more"}))
    target = extract(tmp_path / "x.tar", tmp_path / "target")
    assert (target / "a.txt").read_bytes() == b"content"
    assert (target / "sub" / "b.txt").read_bytes() == b"more"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_a_tar_with_a_link_or_a_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("odd")
    info.type, info.linkname = kind, "../secret"
    (tmp_path / "x.tar").write_bytes(tar({"a.txt": b"content"}, info))
    with pytest.raises(InputError, match="link or device 'odd'"):
        extract(tmp_path / "x.tar", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
def test_a_tar_that_leads_outside_is_refused(tmp_path: Path, member: str) -> None:
    (tmp_path / "x.tar").write_bytes(tar({"good.txt": b"", member: b"evil"}))
    with pytest.raises(InputError, match="outside its target"):
        extract(tmp_path / "x.tar", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_a_truncated_tar_leaves_no_target(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar({"a.txt": bytes(9000)})[:4000])
    with pytest.raises(InputError, match=r"x\.tar cannot be extracted"):
        extract(tmp_path / "x.tar", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).convert("RGB").save(buffer, "PPM")
    return gzip.compress(buffer.getvalue())


@pytest.fixture
def stare(server: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """STARE as its owners pack it, on the local server, with the checksums of these files; their names."""
    content = {
        "stare-images.tar": tar({f"im{number:04d}.ppm.gz": picture(90) for number in (1, 2)}),
        "labels-ah.tar": tar({f"im{number:04d}.ah.ppm.gz": picture(255) for number in (1, 2)}),
        "labels-vk.tar": tar({f"im{number:04d}.vk.ppm.gz": picture(255) for number in (1, 2)}),
    }
    monkeypatch.setattr(Handler, "files", {f"/{name}": data for name, data in content.items()})
    parts = [
        replace(part, url=f"{server}/{name}", sha256=hashlib.sha256(content[name]).hexdigest())
        for part, name in zip(STARE.origin.archives, content, strict=True)
    ]
    monkeypatch.setattr(STARE, "origin", replace(STARE.origin, archives=tuple(parts)))
    return tuple(content)


def test_a_data_set_of_several_archives_is_fetched_once_and_opens(
    stare: tuple[str, ...], tmp_path: Path
) -> None:
    folder = fetch("stare", tmp_path, progress=False)
    assert folder == tmp_path / "STARE"
    assert STARE(folder).ids == STARE(tmp_path, observer="vk").ids == ["im0001", "im0002"]
    assert STARE(folder).read("im0001").mask.all()
    assert len(Handler.seen) == 3
    assert fetch("stare", tmp_path, progress=False) == folder
    assert len(Handler.seen) == 3


def test_a_fetch_that_broke_off_goes_on(
    stare: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dict(Handler.files)
    monkeypatch.setattr(
        Handler, "files", {name: data for name, data in files.items() if "labels-ah" not in name}
    )
    with pytest.raises(InputError, match=r"could not download .*labels-ah\.tar"):
        fetch("stare", tmp_path, progress=False)
    monkeypatch.setattr(Handler, "files", files)
    assert STARE(fetch("stare", tmp_path, progress=False)).ids == ["im0001", "im0002"]
    assert len(Handler.seen) == 4


def test_an_archive_that_is_there_but_not_the_owners_is_refused(
    stare: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / stare[0]).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"stare-images\.tar has not the sha256 .*; remove it"):
        fetch("stare", tmp_path, progress=False)


def test_where_no_checksum_is_published_the_first_download_sets_it(
    stare: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(replace(part, sha256=None) for part in STARE.origin.archives)
    monkeypatch.setattr(STARE, "origin", replace(STARE.origin, archives=parts))
    fetch("stare", tmp_path, progress=False)
    record = tmp_path / "stare-images.tar.sha256"
    assert (
        record.read_text(encoding="utf-8")
        == f"{hashlib.sha256(Handler.files['/stare-images.tar']).hexdigest()}  stare-images.tar\n"
    )
    shutil.rmtree(tmp_path / "STARE")
    (tmp_path / "stare-images.tar").unlink()
    changed = tar({"im0001.ppm.gz": picture(1)})
    monkeypatch.setattr(Handler, "files", Handler.files | {"/stare-images.tar": changed})
    with pytest.raises(
        InputError, match=r"fetch it again, or delete .*stare-images\.tar\.sha256 if its owners"
    ):
        fetch("stare", tmp_path, progress=False)
    record.unlink()
    assert STARE(fetch("stare", tmp_path, progress=False)).ids == ["im0001"]


@pytest.mark.parametrize("name", sorted(origins(GuardedOrigin)))
def test_where_only_people_get_the_data_the_layout_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fetch(name, tmp_path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} is not to be had by program, its ")
    assert f"below {tmp_path}." in sentence
    assert "\n" not in sentence


def test_every_data_set_on_disk_is_fetched_or_explained() -> None:
    made = {"folder", "lits_2d", "phantom_ct", "phantom_kidney", "phantom_polyp", "scans"}
    public, guarded = origins(PublicOrigin), origins(GuardedOrigin)
    assert public.keys() | guarded.keys() == DATASETS.keys() - made
    archives = [archive for origin in public.values() for archive in origin.archives]
    assert all(len(archive.sha256 or "0" * 64) == 64 for archive in archives)
    with pytest.raises(InputError, match="phantom_ct is not to be downloaded"):
        fetch("phantom_ct")
