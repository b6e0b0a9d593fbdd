"""Samples in memory or in mapped files: the same pixels, found again, rebuilt when stale, whole or not at all."""

import multiprocessing
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.folder import Folder
from lightning_seg.data.store import cache
from lightning_seg.data.store import folders as folder_names
from lightning_seg.data.store.cache import ArrayStore, Cache, store
from lightning_seg.data.store.sized import resize_sample
from lightning_seg.errors import InputError

SIZE = (24, 20)


class Counted(Folder):
    """A folder that counts what it reads."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(root, **options)
        self.reads: list[str] = []

    def read(self, id: str) -> Sample:
        self.reads.append(id)
        return super().read(id)


def write(root: Path, count: int = 5, height: int = 40) -> Path:
    rng = np.random.default_rng(count)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(rng.integers(0, 255, (height, 50, 3), dtype=np.uint8)).save(
            root / "images" / f"{index}.png"
        )
        Image.fromarray((rng.random((height, 50)) > 0.5).astype(np.uint8)).save(
            root / "masks" / f"{index}.png"
        )
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "data")


def build(
    root: Path,
    folder: Path,
    size: tuple[int, int] | None = SIZE,
    ids: int | None = None,
    **options: Any,
) -> tuple[Any, list[str]]:
    """The store of a fresh source, and what was read for it."""
    settings = {"mask_threshold": 0} | options
    source = Counted(root, **settings)
    return store(source, source.ids[:ids], size, Cache(settings, folder)), source.reads


def samples(found: Any) -> list[np.ndarray]:
    return [
        np.asarray(part) for index in range(len(found)) for part in found[index] if part is not None
    ]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(*pair) for pair in zip(samples(one), samples(other), strict=True))


def folders(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.is_dir())


def test_memory_and_mapped_files_hold_the_same_samples(root: Path, tmp_path: Path) -> None:
    source = Counted(root, labels=[1], ignore=[7])
    in_memory = store(source, source.ids, SIZE)
    mapped = store(source, source.ids, SIZE, Cache({}, tmp_path / "cache"))
    assert same(in_memory, mapped)
    assert same(in_memory, [resize_sample(source.read(id), SIZE) for id in source.ids])
    assert mapped[0].region is not None
    assert {part.dtype for part in samples(mapped)} == {np.dtype(np.uint8)}
    assert len(mapped) == 5


def test_the_second_start_opens_no_picture(root: Path, tmp_path: Path) -> None:
    first, reads = build(root, tmp_path / "cache")
    assert sorted(reads) == ["0", "1", "2", "3", "4"]
    second, reads = build(root, tmp_path / "cache")
    assert reads == []
    assert same(first, second)
    assert isinstance(second.images.base, np.memmap)


def test_settings_and_lists_of_ids_have_caches_of_their_own(root: Path, tmp_path: Path) -> None:
    parent = tmp_path / "cache"
    for size, ids, options in (
        (SIZE, None, {}),
        ((20, 24), None, {}),
        (None, None, {}),
        (SIZE, 3, {}),
        (SIZE, None, {"in_channels": 1}),
    ):
        before = len(folders(parent)) if parent.exists() else 0
        _, reads = build(root, parent, size, ids, **options)
        assert len(reads) == (5 if ids is None else 0)  # the first three are held already
        assert not build(root, parent, size, ids, **options)[1]
        assert len(folders(parent)) == before + 1


def build_of(root: Path, folder: Path, *ids: str, **options: Any) -> tuple[Any, list[str]]:
    """The store of some samples, and what was read for it."""
    source = Counted(root, **options)
    return store(source, ids, SIZE, Cache(options, folder)), sorted(source.reads)


def test_samples_that_other_lists_hold_are_copied_and_only_the_others_read(
    root: Path, tmp_path: Path
) -> None:
    parent, options = tmp_path / "cache", {"labels": [1], "ignore": [7]}
    assert build_of(root, parent, "3", "0", **options)[1] == ["0", "3"]
    assert build_of(root, parent, "1", **options)[1] == ["1"]
    mixed, reads = build_of(root, parent, "0", "4", "1", "3", **options)
    assert reads == ["4"]
    fresh, _ = build_of(root, tmp_path / "fresh", "0", "4", "1", "3", **options)
    assert same(mixed, fresh)
    assert mixed[0].region is not None
    assert (mixed.contents, mixed.lost) == (fresh.contents, fresh.lost)
    for folder in parent.glob("*"):  # it stands without those it was made from
        if folder.is_dir() and folder != mixed.folder:
            shutil.rmtree(folder)
    assert build_of(root, parent, "0", "4", "1", "3", **options)[1] == []
    assert same(ArrayStore.mapped(mixed.folder), fresh)


@pytest.mark.parametrize("damage", ["truncated", "unnamed", "no json", "no names", "other state"])
def test_samples_of_a_damaged_or_older_cache_are_not_copied(
    damage: str, root: Path, tmp_path: Path
) -> None:
    first, _ = build_of(root, tmp_path / "cache", "0", "1", mask_threshold=0)
    names = first.folder / "samples.json"
    if damage == "truncated":
        content = (first.folder / "masks.npy").read_bytes()
        (first.folder / "masks.npy").unlink()
        (first.folder / "masks.npy").write_bytes(content[:-1])
    elif damage == "unnamed":
        names.unlink()
    elif damage == "no json":
        names.write_text(names.read_text()[:-5])
    elif damage == "no names":
        names.write_text("[]")
    else:
        names.write_text(names.read_text().replace('"state": "', '"state": "0'))
    assert build_of(root, tmp_path / "cache", "1", "2", mask_threshold=0)[1] == ["1", "2"]


@pytest.mark.parametrize("changed", ["1", "4"])
def test_no_sample_is_copied_once_a_file_of_the_data_set_has_changed(
    changed: str, root: Path, tmp_path: Path
) -> None:
    """Also of one that neither list names: masks are held against the first of the data set."""
    build_of(root, tmp_path / "cache", "0", "1", mask_threshold=0)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(root / "images" / f"{changed}.png")
    found, reads = build_of(root, tmp_path / "cache", "1", "2", mask_threshold=0)
    assert reads == ["1", "2"]
    assert found[0].image.any() == (changed != "1")


def test_settings_of_another_data_set_give_no_sample(root: Path, tmp_path: Path) -> None:
    build_of(root, tmp_path / "cache", "0", "1", mask_threshold=0)
    other = write(tmp_path / "other", 5, 30)
    assert build_of(root, tmp_path / "cache", "1", labels=[1])[1] == ["1"]
    assert build_of(other, tmp_path / "cache", "1", mask_threshold=0)[1] == ["1"]


def test_a_mask_that_a_table_gives_to_another_class_is_read_anew(
    root: Path, tmp_path: Path
) -> None:
    """Its files stay the same, in the same order."""
    table = root / "table.csv"
    head, options = "id,image,mask:a,mask:b\n", {"classes": ["a", "b"]}
    for index in range(2):
        Image.fromarray(np.full((40, 50), 255 * (index == 0), np.uint8)).save(
            root / "masks" / f"{index}.png"
        )
    rows = ("masks/0.png,", ",masks/0.png")
    shown = []
    for row in rows:
        table.write_text(f"{head}0,images/0.png,{row}\n")
        found, reads = build_of(table, tmp_path / "cache", "0", **options)
        assert reads == ["0"]
        shown.append(found[0].mask.any(axis=(0, 1)).tolist())
    assert shown == [[True, False], [False, True]]


@pytest.mark.parametrize("change", ["content", "time", "code", "decoder"])
def test_a_stale_cache_is_rebuilt_and_the_old_one_removed(
    change: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = build(root, tmp_path / "cache")
    kept = samples(before)
    (old,) = folders(tmp_path / "cache")
    if change == "content":
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(root / "images" / "3.png")
    elif change == "time":
        os.utime(root / "images" / "3.png", ns=(1, 1))
    elif change == "code":
        code = tmp_path / "reader.py"
        code.write_text("# other code")
        monkeypatch.setattr(folder_names, "_code_files", lambda _: [code])
    else:
        monkeypatch.setattr(folder_names, "version", lambda _: "99")
    found, reads = build(root, tmp_path / "cache")
    assert len(reads) == 5
    (new,) = folders(tmp_path / "cache")
    assert new != old
    assert found[3].image.any() == (change != "content")
    assert all(np.array_equal(*pair) for pair in zip(samples(before), kept, strict=True)), (
        "a run that uses it goes on"
    )


@pytest.mark.parametrize("damage", ["truncated", "emptied", "missing", "fewer"])
def test_a_damaged_cache_is_rebuilt(damage: str, root: Path, tmp_path: Path) -> None:
    whole, _ = build(root, tmp_path / "cache")
    expected = [part.copy() for part in samples(whole)]
    (name,) = folders(tmp_path / "cache")
    file = tmp_path / "cache" / name / "masks.npy"
    content = file.read_bytes()
    file.unlink()
    if damage == "fewer":
        np.save(tmp_path / "cache" / name / "images.npy", np.zeros((2, *SIZE, 3), np.uint8))
    if damage != "missing":
        file.write_bytes({"truncated": content[:-1], "emptied": b"", "fewer": content}[damage])
    found, reads = build(root, tmp_path / "cache")
    assert len(reads) == 5
    assert all(np.array_equal(*pair) for pair in zip(samples(found), expected, strict=True))
    assert folders(tmp_path / "cache") == [name]


def test_what_a_killed_process_left_is_cleared_away(root: Path, tmp_path: Path) -> None:
    build(root, tmp_path / "cache")
    (name,) = folders(tmp_path / "cache")
    (tmp_path / "cache" / name).rename(tmp_path / "cache" / f".{name}-half")
    assert build(root, tmp_path / "cache")[1]
    assert folders(tmp_path / "cache") == [name]


def _build_in_process(root: Path, folder: Path, start: Any, results: Any) -> None:
    start.wait()
    found, reads = build(root, folder)
    results.put((len(reads), [part.tobytes() for part in samples(found)]))


@pytest.mark.filterwarnings("ignore")
def test_of_processes_that_start_together_one_builds_and_all_read_the_same(
    root: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    processes = [
        context.Process(target=_build_in_process, args=(root, tmp_path / "cache", start, results))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    start.set()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(count for count, _ in found) == [0, 0, 0, 5]
    assert all(content == found[0][1] for _, content in found)
    assert len(folders(tmp_path / "cache")) == 1


def test_without_locks_the_slower_process_takes_what_the_faster_one_built(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    source = Counted(root, mask_threshold=0)
    read = source.read

    def slow(id: str) -> Sample:
        if id == "2":
            build(root, tmp_path / "cache")
        return read(id)

    source.read = slow  # type: ignore[method-assign]
    found = store(source, source.ids, SIZE, Cache({"mask_threshold": 0}, tmp_path / "cache"))
    assert len(folders(tmp_path / "cache")) == 1
    assert len(found) == 5


def test_a_damaged_picture_is_named_and_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    file = root / "images" / "3.png"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"3\.png cannot be decoded"):
        build(root, tmp_path / "cache")
    assert folders(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_written_is_a_sentence(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError,
        match=r"cannot keep .* in the cache .*file/cache \(Not a directory\); give data.cache",
    ):
        build(root, tmp_path / "file" / "cache")


def test_a_read_only_folder_serves_what_it_holds_and_else_is_a_sentence(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(root, tmp_path / "cache")
    read_only(monkeypatch, tmp_path / "cache")
    assert build(root, tmp_path / "cache")[1] == []
    with pytest.raises(InputError, match=r"\(Read-only file system\); give data.cache a folder"):
        build(root, tmp_path / "cache", (8, 8))


def read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As a read-only mount, also for root, to whom permissions mean nothing."""
    mkdir, open_ = os.mkdir, os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> None:
        if Path(path).is_relative_to(folder):
            raise OSError(30, "Read-only file system", str(path))
        mkdir(path, *args, **kwargs)

    def refuse_writing(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if (
            flags & os.O_CREAT
            and isinstance(path, str | Path)
            and Path(path).is_relative_to(folder)
        ):
            raise OSError(30, "Read-only file system", str(path))
        return open_(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", refuse)
    monkeypatch.setattr(os, "open", refuse_writing)


def _build_with_little_room(root: Path, folder: Path, results: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    try:
        results.put(f"built {build(root, folder)}")
    except InputError as error:
        results.put(str(error))


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_is_a_sentence_and_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own, stands for the full disk: writing beyond it fails alike."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(
        target=_build_with_little_room, args=(root, tmp_path / "cache", results)
    )
    process.start()
    sentence = results.get()
    process.join()
    assert "cannot keep Counted-24x20" in sentence
    assert "(File too large); give data.cache a folder that can be written and has room" in sentence
    assert folders(tmp_path / "cache") == []


def test_memory_is_used_up_to_its_share_and_files_beyond(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    need = 5 * SIZE[0] * SIZE[1] * 4
    source = Counted(root, mask_threshold=0)
    for available, processes, on_disk in (
        (4 * need, 1, False),
        (4 * need, 2, True),
        (4 * need - 4, 1, True),
    ):
        monkeypatch.setattr(cache, "available_memory", lambda available=available: available)
        found = store(source, source.ids, SIZE, Cache({}, None, processes))
        assert isinstance(found, ArrayStore)
        assert (found.folder is not None) == on_disk
    assert len(folders(tmp_path / "home" / "lightning_seg")) == 1


def test_the_available_memory_is_that_of_the_machine_or_less() -> None:
    assert 0 < cache.available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_source_that_names_no_files_stays_in_memory(
    make_source: Callable[..., Any], tmp_path: Path
) -> None:
    source = make_source()
    found = store(source, source.ids, (8, 8), Cache({}, tmp_path / "cache"))
    assert len(found) == 12
    assert not (tmp_path / "cache").exists()


def test_a_source_may_bring_its_own_store(tmp_path: Path) -> None:
    asked: list[Any] = []
    own = [Sample(np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 1), np.uint8))]
    source: Any = SimpleNamespace(store=lambda *args: asked.append(args) or own)
    assert store(source, ("a",), (2, 2), Cache({}, tmp_path)) is own
    assert store(source, ("a",), None) is own
    assert asked == [(["a"], (2, 2), tmp_path), (["a"], None, None)]


def test_a_mapped_store_travels_as_its_folder(root: Path, tmp_path: Path) -> None:
    """To workers that are spawned: the pixels are mapped again, not sent."""
    found, _ = build(root, tmp_path / "cache")
    content = pickle.dumps(found)
    assert len(content) < 500
    assert same(pickle.loads(content), found)
    assert same(pickle.loads(pickle.dumps(ArrayStore(found.images, found.masks))), found)


@pytest.mark.filterwarnings("ignore")
def test_the_datamodule_gives_the_same_batches_with_and_without_a_cache(
    root: Path, tmp_path: Path
) -> None:
    write(root, 12)
    options = {
        "dataset": "folder",
        "root": str(root),
        "size": 16,
        "batch_size": 2,
        "num_workers": 0,
    }
    options |= {"dataset_options": {"mask_threshold": 0}}

    def batches(cache: str | None) -> list[bytes]:
        module = SegmentationDataModule(**options, cache=cache)  # type: ignore[arg-type]
        module.setup("fit")
        return [
            batch[part].numpy().tobytes()
            for batch in module.train_dataloader()
            for part in ("image", "mask")
        ]

    plain = batches(None)
    assert batches(str(tmp_path / "cache")) == plain
    assert batches(str(tmp_path / "cache")) == plain
    assert len(folders(tmp_path / "cache")) == 2  # train and val; nothing of test is opened
