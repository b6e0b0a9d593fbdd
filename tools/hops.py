"""Counts the functions and files of a checkout that a call passes through.

    python tools/hops.py 'ls.create("unet")' --setup 'import lightning_seg as ls'

What ``--setup`` runs is not counted. A function counts once, where it is first entered; the text of
a module or of a class that is loaded on the way does not count. Names are printed in that order.
"""

import argparse
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

PACKAGES = ("lightning_seg", "hpo", "experiments", "benchmarks")
HAS_OWN_NAMES = 0x1  # CO_OPTIMIZED: set for functions, not for modules and class bodies


def trace_hops(call: Callable[[], object], folder: Path) -> list[tuple[str, str]]:
    """The functions that a call enters, as (file, name), in the order of their first entry."""
    roots = tuple(f"{folder / package}/" for package in PACKAGES)
    hops: dict[tuple[str, str], None] = {}  # a set that keeps the order

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        is_function = event == "call" and code.co_flags & HAS_OWN_NAMES
        if is_function and code.co_filename.startswith(roots):
            name = code.co_qualname.partition(".<locals>.<")[0]  # a comprehension is its function
            if not name.startswith("<"):  # nor does the comprehension of a module count
                hops[str(Path(code.co_filename).relative_to(folder)), name] = None

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return list(hops)


def main() -> None:
    """Run the code of the command line and print where it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("code", help="Python statements, as for `python -c`")
    parser.add_argument("--setup", default="", help="statements that run before, uncounted")
    parser.add_argument("--folder", type=Path, default=here, help="the checkout; default: this one")
    options = parser.parse_args()
    folder = options.folder.resolve()
    sys.path.insert(0, str(folder))
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(options.setup, "setup", "exec"), names)
    code = compile(options.code, "code", "exec")
    hops = trace_hops(lambda: exec(code, names), folder)
    for file, name in hops:
        print(f"{file}: {name}")
    print(f"{len(hops)} functions in {len({file for file, _ in hops})} files")


if __name__ == "__main__":
    main()
