"""``lightning-seg export``: from a checkpoint to a model that others load, without lightning_seg.

A kind of export is one file of this folder: its docstring begins with
``lightning-seg export <kind>`` in double backticks, and its ``main`` takes the arguments that
follow.
"""

import ast
import re
from importlib import import_module
from pathlib import Path

from lightning_seg.errors import unknown


def export_kinds() -> dict[str, str]:
    """kind -> the first sentence about it, of the files beside this one; nothing is imported."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        about = re.match(rf"``lightning-seg export {file.stem}``: (.*?\.)(\s|$)", text, re.DOTALL)
        if about:
            found[file.stem] = " ".join(about[1].split())
    return found


def main(args: list[str]) -> None:
    """``lightning-seg export <kind>``; each kind has a ``--help`` of its own."""
    kinds = export_kinds()
    if not args or args[0] in ("-h", "--help"):
        print("lightning-seg export <kind> --ckpt_path X --output Y\n")
        for name, about in kinds.items():
            print(f"  {name:10}{about}")
        print("\n`lightning-seg export <kind> --help` lists the options of a kind.")
    elif args[0] in kinds:
        import_module(f"lightning_seg.export.{args[0]}").main(args[1:])
    else:
        raise unknown("kind of export", args[0], kinds)
