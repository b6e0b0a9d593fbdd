"""Tables of files: what is listed twice or stands beside the columns is refused."""

from pathlib import Path

import pytest

from lightning_seg.data.sources.base.tables import read_table
from lightning_seg.errors import InputError


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["id,image,mask", "x,a.png,m.png,test"], "more than 3 cells"),
        (["id,image,mask,mask", "x,a.png,m.png,n.png"], "names a column twice"),
        (["id,image,mask", "x,a.png,m.png", "y,./a.png,n.png"], "twice, as 'x' and as 'y'"),
    ],
)
def test_what_a_table_would_lose_or_count_twice_is_refused(
    tmp_path: Path,
    lines: list[str],
    sentence: str,
) -> None:
    for name in ("a.png", "m.png", "n.png"):
        (tmp_path / name).touch()
    table = tmp_path / "t.csv"
    table.write_text("\n".join(lines))
    with pytest.raises(InputError, match=sentence):
        read_table(table)


def test_a_mask_may_serve_two_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "m.png"):
        (tmp_path / name).touch()
    table = tmp_path / "t.csv"
    table.write_text("id,image,mask\nx,a.png,m.png\ny,b.png,m.png\n")
    assert list(read_table(table).rows) == ["x", "y"]
