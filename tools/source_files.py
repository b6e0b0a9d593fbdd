"""Reads a checkout's modules as text: what each defines, holds and imports. Nothing is imported."""

import ast
import io
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

LAYOUT = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

Graph = dict[str, set[str]]


class SourceFile:
    """One module: its dotted name, its path below the checkout, its syntax tree and its tokens."""

    def __init__(self, folder: Path, path: Path):
        self.path = path.relative_to(folder).as_posix()
        self.module = self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text, self.path)
        self.nodes = list(ast.walk(self.tree))
        self.definitions = [node.name for node in self.tree.body if isinstance(node, DEFINITIONS)]

    def find(self, *kinds: type) -> list:
        """The nodes of these kinds, at any depth."""
        return [node for node in self.nodes if isinstance(node, kinds)]

    @cached_property
    def tokens_by_line(self) -> Counter[int]:
        """The number of tokens that start on each code line."""
        counts: Counter[int] = Counter()
        open_strings = 0
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            kind = tokenize.tok_name[token.type]
            # Python 3.12 takes an f-string apart; its start stands for the whole.
            if kind not in LAYOUT and not open_strings:
                counts[token.start[0]] += 1
            open_strings += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        return counts

    def constants(self) -> Iterator[str]:
        """Names that are assigned at the top of the module."""
        for node in self.tree.body:
            targets = [*getattr(node, "targets", []), getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign):
                yield from (target.id for target in targets if isinstance(target, ast.Name))

    def function_sizes(self) -> Iterator[tuple[int, int]]:
        """Lines and tokens of each function."""
        for node in self.find(*FUNCTIONS):
            span = range(node.lineno, node.end_lineno + 1)
            first = node.body[0]
            documented = ast.get_docstring(node) is not None
            docstring = first.end_lineno - first.lineno + 1 if documented else 0
            yield len(span) - docstring, sum(self.tokens_by_line[line] for line in span)

    def docstrings(self) -> Iterator[tuple[str, str]]:
        """Place and first line of the docstring of each function and class."""
        for node in self.find(*DEFINITIONS):
            if text := ast.get_docstring(node):
                yield f"{self.path}:{node.lineno}", text.splitlines()[0]

    def imports(self) -> Iterator[str]:
        """Dotted names that the file imports: modules, and names out of modules."""
        guards = [node for node in self.find(ast.If) if "TYPE_CHECKING" in ast.unparse(node.test)]
        not_run = {inner for guard in guards for inner in ast.walk(guard)}
        inside = f"{self.module}.".split(".") if "__init__" in self.path else self.module.split(".")
        for node in self.find(ast.Import, ast.ImportFrom):
            origin = ""
            if isinstance(node, ast.ImportFrom):
                above = inside[: -node.level] if node.level else []
                origin = "".join(f"{part}." for part in [*above, node.module] if part)
            if node not in not_run:
                yield from (origin + alias.name for alias in node.names)


def read_checkout(folder: Path, packages: Iterable[str]) -> list[SourceFile]:
    """Read every module of the packages."""
    paths = [path for package in packages for path in sorted((folder / package).rglob("*.py"))]
    return [SourceFile(folder, path) for path in paths]


def import_graph(files: list[SourceFile], depth: int | None = None) -> Graph:
    """Each module with those it imports; ``depth`` cuts names to so many parts, 2 for rooms."""
    modules = {file.module for file in files}
    graph: Graph = defaultdict(set)
    for file in files:
        source = ".".join(file.module.split(".")[:depth])
        for name in file.imports():
            module = name if name in modules else name.rpartition(".")[0]
            if module in modules:
                graph[source].add(".".join(module.split(".")[:depth]))
        graph[source].discard(source)
    return graph


def find_cycles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    reached: Graph = {}
    for node in graph:
        reached[node], ahead = set(), [node]
        while ahead:
            unseen = graph.get(ahead.pop(), set()) - reached[node]
            reached[node] |= unseen
            ahead.extend(unseen)
    groups = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in graph}
    return sorted(sorted(group) for group in groups if group)
