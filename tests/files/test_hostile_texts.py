"""YAML, JSON and tables that hold code, bombs or nonsense, and what is no file at all: read as data, or one sentence."""

import os

import pytest

from lightning_seg.data.sources.base.tables import read_table
from lightning_seg.data.splits import load_protocol
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.files.documents import read_json, read_yaml

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(12)
)
YAML = {
    "a call": '!!python/object/apply:os.system ["touch mark"]',
    "a name": "a: !!python/name:os.system",
    "a module": "a: !!python/module:os",
    "an object": "a: !!python/object:os.system {}",
    "a tag of its own": "!foo bar",
    "itself": "&a [*a]",
    "itself by its key": "&a {*a : 1}",
    "laughs": LAUGHS,
    "6,000 digits": "a: " + "9" * 6000,
    "no month": "a: 9999-99-99",
    "a list as a key": "{[1]: 2}",
    "a null": 'a: "\0"',
    "a tab": "a: 1\n\tb: 2",
    "another version": "%YAML 9.9\n---\na: 1",
    "two documents": "a: 1\n---\nb: 2",
    "5,000 levels": "[" * 5000,
    "an end that is missing": '{"a": [1, 2',
    "UTF-16": "a: 1".encode("utf-16"),
    "Latin-1": b"a: \xe9",
}
JSON = {
    "100,000 levels": "[" * 100_000,
    "6,000 digits": '{"a": ' + "9" * 6000 + "}",
    "a list": "[1]",
    "a null": '{"a": "\0"}',
    "nothing": "",
}


def put(folder, content):
    file = folder / "a.file"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    ("read", "content"),
    [
        *((read_yaml, content) for content in YAML.values()),
        *((read_json, c) for c in JSON.values()),
    ],
    ids=[*YAML, *(f"JSON, {name}" for name in JSON)],
)
def test_a_document_that_is_none_is_a_sentence(tmp_path, monkeypatch, read, content):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        read(put(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


COUNTS = "id,group,class,tp,fp,fn,tn\na,a,x,"
SPLIT = "id,split\n"
TABLES = {
    "a cell of 300 kB": (load_protocol, SPLIT + "a" * 300_000 + ",train\n"),
    "a split that is misspelt": (load_protocol, SPLIT + "a,trian\n"),
    "an image twice": (load_protocol, SPLIT + "a,train\na,test\n"),
    "a quote without an end": (load_protocol, SPLIT + '"a,train\nb,val\n'),
    "a cell of 300 kB in a table": (read_table, "id,image,mask\n" + "a" * 300_000 + ",b,c\n"),
    "100,000 columns": (read_table, "id,image,mask" + ",x" * 100_000 + "\na,b,c\n"),
    "a column twice": (read_table, "id,id,image,mask\na,b,c,d\n"),
    "a device as a picture": (read_table, "id,image,mask\na,/dev/zero,/dev/zero\n"),
    "an address as a picture": (read_table, "id,image,mask\na,http://127.0.0.1:9/a.png,b.png\n"),
    "a table in UTF-16": (read_table, "id,image,mask\n".encode("utf-16")),
    "counts below 0": (ScoreTable.read, COUNTS + "-1,0,0,1\n"),
    "counts of no number": (ScoreTable.read, COUNTS + "nan,0,0,1\n"),
    "counts of 30 digits": (ScoreTable.read, COUNTS + "9" * 30 + ",0,0,1\n"),
    "counts with exponents": (ScoreTable.read, COUNTS + "1e3,0,0,1\n"),
    "a row too short": (ScoreTable.read, COUNTS + "1\n"),
    "a column of counts twice": (ScoreTable.read, "id,class,tp,tp,fp,fn,tn\na,x,1,2,3,4\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_none_is_a_sentence(tmp_path, name):
    read, content = TABLES[name]
    file = put(tmp_path, content).rename(tmp_path / "a.csv")
    with pytest.raises(InputError) as caught:
        read(file)
    assert "\n" not in str(caught.value)


PLACES = {
    "a pipe": os.mkfifo,
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a folder": lambda file: file.mkdir(),
    "nothing": lambda file: None,
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("read", [read_yaml, read_json, read_table, load_protocol, ScoreTable.read])
def test_what_is_no_file_is_a_sentence(tmp_path, read, name):
    file = tmp_path / "a.csv"
    PLACES[name](file)
    with pytest.raises(InputError) as caught:
        read(file)
    assert "\n" not in str(caught.value)
