"""Looks at test splits are counted split by split, and ledgers of version 0.1 go on."""

from lightning_seg.runs.ledger import LOOK_COLUMNS, enter_look, read_looks

POLYPS = {
    "protocol": "polyps",
    "protocol_digest": "aa",
    "dataset": "phantom_polyp",
    "checkpoint": "a.ckpt",
    "content": "1",
}
SLICES = POLYPS | {"protocol": "slices", "protocol_digest": "bb", "content": "2"}


def test_looks_at_one_split_are_no_looks_at_another(tmp_path):
    looks = [enter_look(tmp_path, facts) for facts in (POLYPS, POLYPS, SLICES, POLYPS, SLICES)]
    assert looks == [1, 2, 1, 3, 2]


def test_the_same_images_under_another_protocol_are_the_same_split(tmp_path):
    renamed = SLICES | {"content": POLYPS["content"]}
    assert [enter_look(tmp_path, facts) for facts in (POLYPS, renamed)] == [1, 2]


def test_without_a_digest_of_the_images_the_protocol_says_which_split_it_is(tmp_path):
    unknown = [facts | {"content": ""} for facts in (POLYPS, SLICES, POLYPS)]
    assert [enter_look(tmp_path, facts) for facts in unknown] == [1, 1, 2]


def test_a_ledger_of_version_0_1_goes_on(tmp_path):
    old = "time,protocol,protocol_digest,dataset,checkpoint\nt,polyps,aa,phantom_polyp,a.ckpt\n"
    (tmp_path / "ledger.csv").write_text(old)
    assert enter_look(tmp_path, POLYPS) == 2
    assert enter_look(tmp_path, SLICES) == 1
    rows = read_looks(tmp_path / "ledger.csv")
    assert [row["protocol"] for row in rows] == ["polyps", "polyps", "slices"]
    assert tuple(rows[0]) == LOOK_COLUMNS
