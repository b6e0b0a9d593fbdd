"""Names of results: one function for every writer, so that no two share a name and none leaves the
folder."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import InputError
from lightning_seg.files.alike_names import alike_names, tells_capitals

LONGEST = 120  # bytes of a part: file systems allow 255, with suffixes and a temporary name
# what a file system, a shell or Windows takes for something else, and bytes that are not UTF-8
_SPECIAL = re.compile(r'[/\\:*?"<>|~%\x00-\x1f\x7f\ud800-\udfff]|^\.')


def safe_part(text: str) -> str:
    """A name of one folder or file for any text; different texts have different names."""
    name = _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", text) or "%"
    content = name.encode()
    if len(content) <= LONGEST:
        return name
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: LONGEST - 20].decode(errors='ignore')}~{digest}"


def safe_path(text: str) -> str:
    """A relative path for any text, whose slashes are folders; different texts have different
    ones."""
    return "/".join(map(safe_part, text.split("/")))


def output_names(
    files: Sequence[str],
    suffixes: Sequence[str],
) -> list[str]:
    """The name of each file's results: its path without suffix, or with it where two would share
    one."""
    bare = [file.removesuffix(suffix) for file, suffix in zip(files, suffixes, strict=True)]
    chosen = list(bare)
    while True:
        often = Counter(chosen)
        shared = [k for k, name in enumerate(chosen) if often[name] > 1 and name != files[k]]
        if not shared:
            return list(map(safe_path, chosen))
        for k in shared:
            chosen[k] = files[k]


def check_outputs_apart(names: Sequence[str], folder: Path) -> None:
    """InputError where results of alike names would replace each other in a folder."""
    alike = alike_names(names)
    if alike and not tells_capitals(folder):
        raise InputError(
            f"the results of {' and '.join(map(repr, alike[0]))} would replace each other in "
            f"{folder}, whose disk does not tell capitals; rename one, or give --output another disk."
        )


def mask_files(
    folder: Path, name: str, classes: Sequence[str], suffix: str = ".png"
) -> dict[str, Path]:
    """class -> where its mask lies: ``masks/<name>.png``, or of several
    ``masks/<name>_<class>.png``.

    Where a class ends as another (``left_lung`` and ``lung``), ``~`` stands before it, which no
    name holds.
    """
    if len(classes) == 1:
        return {classes[0]: folder / "masks" / f"{name}{suffix}"}
    ends = [other for other in classes if any(one.endswith(f"_{other}") for one in classes)]
    joint = "~" if ends else "_"
    return {
        label: folder / "masks" / f"{name}{joint}{safe_part(label)}{suffix}" for label in classes
    }
