"""Measures how a checkout's Python reads, and prints one Markdown table.

    python tools/house.py                          # this checkout, its four packages
    python tools/house.py ../old --package hpo     # another folder, one package
    python tools/house.py --twice --public --docstrings --cycles    # what was counted, one by one

It needs the standard library alone, so that the same script measures an old commit and today's.

* A function is any `def`, methods and inner ones included. Its lines leave out the docstring.
* A token is what `tokenize` yields, without comments, line ends and indentation. It counts on the
  line where it starts. A string is one token. A code line is one on which a token starts.
* A definition is a `def` or `class` at the top of a module, a constant is a name assigned there.
* A docstring without a subject is one that opens with a word of `OPENERS`: "Of a worker."
* A room is a folder right below a package. In the graph of rooms a module beside them is a node.
* An import counts wherever it stands, in a function too, but not under `if TYPE_CHECKING`.
  A cycle is a group of files, or of rooms, each of which reaches every other by imports.
"""

import argparse
import ast
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from source_files import COMPREHENSIONS, SourceFile, find_cycles, import_graph, read_checkout

PACKAGES = ("lightning_seg", "hpo", "experiments", "benchmarks")
CROWDED = 20  # a line of more tokens is crowded
OPENERS = re.compile(
    r"\W*(After|Around|As|At|Because|Before|Between|By|For|From|How|If|In|Into|Of|On|Over|Per|Since"
    r"|That|Under|Until|What|When|Where|Whether|Which|Who|Whoever|Whose|With|Within|Without)\b"
)

Value = int | float | tuple[float, ...]  # a float is a share in percent


def names_defined_twice(files: list[SourceFile], public: bool = False) -> dict[str, list[str]]:
    """The names that several files define, with these files; ``public`` leaves out `main`, `_x`."""
    homes = defaultdict(set)
    for file in files:
        for name in file.definitions:
            if not (public and re.match("_|main$", name)):
                homes[name].add(file.path)
    return {name: sorted(paths) for name, paths in sorted(homes.items()) if len(paths) > 1}


def lacks_subject(docstring: str) -> bool:
    """Tell whether a docstring opens with a preposition or a question word."""
    return OPENERS.match(docstring) is not None


def holds_another(node: ast.expr) -> bool:
    """Tell whether a comprehension lies inside this one."""
    return any(isinstance(inner, COMPREHENSIONS) for inner in ast.walk(node) if inner is not node)


def has_two_loops(node: ast.ListComp) -> bool:
    """Tell whether a comprehension loops twice, by a second `for` or by another inside it."""
    return len(node.generators) > 1 or holds_another(node)


def share_of(flags: Iterable[object]) -> float:
    """The percentage that is true."""
    truths = [bool(flag) for flag in flags]
    return round(100 * sum(truths) / max(len(truths), 1), 1)


def measure_house(files: list[SourceFile]) -> dict[str, Value]:
    """Every measure of these files, by its name in the table."""
    lines, tokens = zip(*(size for file in files for size in file.function_sizes()), strict=True)
    median, longest, ninth_decile = statistics.median(lines), max(lines), len(lines) * 9 // 10
    per_line = [count for file in files for count in file.tokens_by_line.values()]
    nodes = [node for file in files for node in file.find(*COMPREHENSIONS)]
    defined = [name for file in files for name in file.definitions]
    commands_aside = [name for name in defined if name != "main"]
    named = [*defined, *(name for file in files for name in file.constants())]
    one_word = re.compile("_?[a-z]+")
    sentences = [sentence for file in files for _, sentence in file.docstrings()]
    twice = names_defined_twice(files)
    places = [file.path.split("/") for file in files]
    rooms = import_graph(files, depth=2)
    return {
        "files": len(files),
        "code lines": len(per_line),
        "lines of a function, median / p90 / max": (median, sorted(lines)[ninth_decile], longest),
        "tokens of a function, median / max": (statistics.median(tokens), max(tokens)),
        f"lines of more than {CROWDED} tokens": share_of(count > CROWDED for count in per_line),
        "comprehensions that hold another": share_of(map(holds_another, nodes)),
        "the same, or with two `for`": share_of(map(has_two_loops, nodes)),
        "definitions whose name another file has": share_of(name in twice for name in defined),
        "the same without `main`": share_of(name in twice for name in commands_aside),
        "public names with several homes": len(names_defined_twice(files, public=True)),
        "names of one lower-case word": share_of(map(one_word.fullmatch, named)),
        "docstrings without a subject": share_of(map(lacks_subject, sentences)),
        "top-level modules": sum(len(place) == 2 for place in places),
        "rooms": len({tuple(place[:2]) for place in places if len(place) > 2}),
        "arrows between rooms": sum(map(len, rooms.values())),
        "import cycles of files": len(find_cycles(import_graph(files))),
        "import cycles of rooms": len(find_cycles(rooms)),
    }


def format_value(value: Value) -> str:
    """A share with its sign, several numbers with strokes between them."""
    if isinstance(value, tuple):
        return " / ".join(f"{part:g}" for part in value)
    return f"{value} %" if isinstance(value, float) else str(value)


def print_table(columns: dict[str, dict[str, Value]]) -> None:
    """Print one row for each measure, one column for each package."""
    print("|", " | ".join(["measure", *columns]), "|")
    print("|", " | ".join(["---", *("---:" for _ in columns)]), "|")
    for label in next(iter(columns.values())):
        values = [format_value(column[label]) for column in columns.values()]
        print("|", " | ".join([label, *values]), "|")


def print_details(files: list[SourceFile], options: argparse.Namespace) -> None:
    """Print the names, docstrings and cycles that were counted, as far as they are asked for."""
    if options.twice or options.public:
        for name, paths in names_defined_twice(files, options.public).items():
            print(f"{name}: {', '.join(paths)}")
    if options.docstrings:
        for place, sentence in (found for file in files for found in file.docstrings()):
            if lacks_subject(sentence):
                print(f"{place}: {sentence}")
    if options.cycles:
        for depth in (None, 2):
            for group in find_cycles(import_graph(files, depth)):
                print("cycle of", "rooms:" if depth else "files:", " ".join(group))


def main() -> None:
    """Measure the checkout that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("folder", nargs="?", type=Path, default=here)
    parser.add_argument("--package", nargs="+", default=PACKAGES)
    parser.add_argument("--json", action="store_true", help="the numbers as JSON")
    parser.add_argument("--twice", action="store_true", help="list names of several files")
    parser.add_argument("--public", action="store_true", help="list the public ones of these")
    parser.add_argument("--docstrings", action="store_true", help="list those without a subject")
    parser.add_argument("--cycles", action="store_true", help="list files that import each other")
    options = parser.parse_args()
    read = {package: read_checkout(options.folder, [package]) for package in options.package}
    columns = {package: files for package, files in read.items() if files}
    if not columns:
        parser.error(f"{options.folder} holds none of {', '.join(options.package)}")
    everything = [file for files in columns.values() for file in files]
    if len(columns) > 1:
        columns["all"] = everything
    if options.twice or options.public or options.docstrings or options.cycles:
        print_details(everything, options)
        return
    measured = {package: measure_house(files) for package, files in columns.items()}
    if options.json:
        print(json.dumps(measured, indent=2))
    else:
        print_table(measured)


if __name__ == "__main__":
    main()
