"""Archives and pickles in place of checkpoints: bombs, code, devices; each is one sentence, and nothing of it runs."""

import copy
import os
import pickle
import struct
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_seg.errors import InputError
from lightning_seg.runs.checkpoints import SavedModel, read_checkpoint
from tests.inference.conftest import write_checkpoint


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("good") / "good.ckpt")


class Call:
    """Unpickled, it calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def marked(mark):
    return {
        "a command": Call(os.system, f"touch {mark}"),
        "a text that is run": Call(eval, f"open({str(mark)!r}, 'w')"),
        "a file that is opened": Call(open, str(mark), "w"),
        "a fetch": Call(torch.hub.load_state_dict_from_url, "http://127.0.0.1:9/a"),
        "a class that is made": Call(type, "Made", (), {}),
        "a pickle in a pickle": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {mark}"))),
    }


@pytest.mark.parametrize("name", marked(""))
@pytest.mark.parametrize(
    "write", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))]
)
def test_code_is_not_run(good, tmp_path, name, write):
    content = torch.load(good, weights_only=True) | {"more": marked(tmp_path / "mark")[name]}
    write(content, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match="is not a checkpoint of lightning_seg"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "mark").exists()


def parts_of(file):
    with zipfile.ZipFile(file) as archive:
        return [(part.filename, archive.read(part)) for part in archive.infolist()]


def written(parts, file, packed=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", packed) as archive:
        for name, content in parts:
            archive.writestr(name, content)


def replaced(end, change):
    """A mutation of the parts whose name ends so."""
    return lambda parts: [(name, change(c) if name.endswith(end) else c) for name, c in parts]


def bomb(parts):
    return [*parts, ("archive/data/999", bytes(2 * 10**7))]


ARCHIVES = {
    "packed": (lambda parts: parts, zipfile.ZIP_DEFLATED),
    "a bomb beside the weights": (bomb, zipfile.ZIP_DEFLATED),
    "a bomb as the weights": (replaced("/data/0", lambda _: bytes(2 * 10**7)), zipfile.ZIP_LZMA),
    "a bomb behind the settings": (replaced(".pkl", lambda c: c + bytes(10**7)), zipfile.ZIP_BZIP2),
    "no settings": (lambda parts: [p for p in parts if not p[0].endswith(".pkl")], 0),
    "no weights": (lambda parts: [p for p in parts if "/data/" not in p[0]], 0),
    "weights cut short": (replaced("/data/0", lambda c: c[:3]), 0),
    "a version of 20 digits": (replaced("version", lambda _: b"9" * 20), 0),
    "bytes in no order": (replaced("byteorder", lambda _: b"middle"), 0),
    "weights above the archive": (
        lambda parts: [(name.replace("/data/", "/../../data/"), c) for name, c in parts],
        0,
    ),
    "20,000 parts": (lambda parts: [*parts, *((f"archive/x{k}", b"") for k in range(20_000))], 0),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_not_as_torch_writes_it_is_a_sentence(good, tmp_path, name):
    change, packed = ARCHIVES[name]
    written(change(parts_of(good)), tmp_path / "bad.ckpt", packed)
    with pytest.raises(InputError, match="is not a checkpoint of lightning_seg") as caught:
        read_checkpoint(tmp_path / "bad.ckpt")
    assert "\n" not in str(caught.value)


PICKLES = {
    "depth": b"\x80\x02" + b"]" * 100_000 + b".",
    "a memo of 2^31": b"\x80\x02r\xff\xff\xff\x7f.",
    "a text of 2^62": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "bytes of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "a foreign storage": b"\x80\x02X\x01\0\0\0aQ.",
    "another protocol": b"\x80\x09.",
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("inside", [True, False])
def test_a_pickle_that_claims_much_is_a_sentence(good, tmp_path, name, inside):
    file = tmp_path / "bad.ckpt"
    if inside:
        written(replaced("data.pkl", lambda _: PICKLES[name])(parts_of(good)), file)
    else:
        file.write_bytes(PICKLES[name])
    with pytest.raises(InputError, match="is not a checkpoint of lightning_seg"):
        read_checkpoint(file)


TENSORS = {
    "truth values": lambda value: value > 0,
    "whole numbers": lambda value: value.long(),
    "quantized": lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    "without contents": lambda value: value.to("meta"),
    "conjugate": lambda value: torch.view_as_complex(torch.stack([value, value], -1)).conj(),
    "a number": lambda value: torch.tensor(1.0),
    "8 bits": lambda value: value.to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_weight_of_another_kind_is_taken_as_a_number_or_refused(good, tmp_path, name):
    content = copy.deepcopy(torch.load(good, weights_only=True))
    first = next(key for key, value in content["state_dict"].items() if value.dim() == 4)
    content["state_dict"][first] = TENSORS[name](content["state_dict"][first])
    torch.save(content, tmp_path / "bad.ckpt")
    with suppress(InputError):
        assert SavedModel.read(tmp_path / "bad.ckpt") is not None


def _no_zip(file):
    with file.open("wb") as opened:
        np.savez(opened, a=np.array([{}], dtype=object))


PLACES = {
    "a folder": lambda file: file.mkdir(),
    "a pipe": os.mkfifo,
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to this process": lambda file: file.symlink_to("/proc/self/mem"),
    "200 GB of nothing": lambda file: subprocess.run(["truncate", "-s", "200G", file], check=True),
    "an archive of arrays": _no_zip,
    "nothing": lambda file: file.touch(),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_of_a_checkpoint_is_a_sentence(tmp_path, name):
    file = Path(tmp_path / "bad.ckpt")
    PLACES[name](file)
    with pytest.raises(InputError) as caught:
        SavedModel.read(file)
    assert "\n" not in str(caught.value)


def test_weights_with_one_wrong_bit_are_refused(good, tmp_path):
    whole, file = good.read_bytes(), tmp_path / "bad.ckpt"
    first = next(iter(torch.load(good, weights_only=True)["state_dict"].values()))
    place = whole.index(first.numpy().tobytes())
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    changed = next(iter(torch.load(file, weights_only=True)["state_dict"].values()))
    assert not torch.equal(changed, first)  # torch says nothing
    with pytest.raises(InputError, match="was damaged: the checksum of one of its parts is wrong"):
        read_checkpoint(file)
