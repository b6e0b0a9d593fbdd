"""The generated pages of the documentation's reference, written from the code as it is.

``docs/conf.py`` calls `write_all` at each build; nothing of it is kept in the repository.
"""

import ast
import contextlib
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from docstring_parser import parse

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import network_diagram  # noqa: E402
import networks_page  # noqa: E402

from lightning_seg.models.frame.listing import type_words  # noqa: E402

PACKAGE = ROOT / "lightning_seg"
NOT_IN_RECIPES = ("classes", "in_channels", "exclusive", "optimization")  # set from the data
PARTS = {  # verb -> commands below it, each with a help of its own
    "data": ("adopt", "protocols", "check", "show", "prepare", "download", "cache"),
    "export": ("hf", "onnx", "program"),
    "hpo": ("run", "best", "export", "repeat", "plot", "serve"),
}


def help_text(command: tuple[str, ...]) -> str:
    """What ``lightning-seg <command> --help`` prints, 100 columns wide."""
    from lightning_seg.__main__ import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).rstrip()


def command_line_page() -> str:
    """Every verb with its help; of `fit` the keys have a page of their own."""
    from lightning_seg.__main__ import RUNS, VERBS

    os.environ["COLUMNS"] = "100"
    lines = ["# Command line", ""]
    lines += ["`fit`, `validate` and `test` take every key of a [recipe](recipe.md) as an option:"]
    lines += ["`--model.lr 1e-3`. The help of the others follows.", ""]
    for verb, meaning in (RUNS | VERBS).items():
        lines += [f"## {verb}", "", _sentence(meaning), ""]
        if verb in RUNS:
            continue
        for command in [(verb,)] + [(verb, part) for part in PARTS.get(verb, ())]:
            if len(command) == 2:
                lines += [f"### {' '.join(command)}", ""]
            lines += ["```text", help_text(command), "```", ""]
    return "\n".join(lines)


def _sentence(meaning: str) -> str:
    """``train: lightning-seg fit ...`` as two parts, the command as code."""
    text, _, example = meaning.partition(": ")
    return f"{text[0].upper()}{text[1:]}: `{example}`"


def recipe_page() -> str:
    """Every key of ``model:`` and ``data:`` with type, default and meaning."""
    from lightning_seg.data import SegmentationDataModule
    from lightning_seg.training.module import SegmentationModule
    from lightning_seg.training.optimizer import Optimization

    lines = [
        "# Keys of a recipe",
        "",
        "A recipe is a YAML file for `lightning-seg fit -c recipe.yaml`; each key is also an option,",
        "`--model.lr 1e-3`. A misspelt key ends with one sentence and its near match.",
        "",
        "`trainer:` takes the arguments of Lightning's",
        "[Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html), `seed_everything`",
        "an integer, `name` the run's name and `runs` the folder of all runs.",
        "",
        "## model: network and loss",
        "",
        *key_table("model", SegmentationModule, NOT_IN_RECIPES),
        "",
        "## model: optimisation",
        "",
        *key_table("model", Optimization, ()),
        "",
        "## data",
        "",
        *key_table("data", SegmentationDataModule, ()),
        "",
    ]
    return "\n".join(lines)


def key_table(prefix: str, owner: type, left_out: tuple[str, ...]) -> list[str]:
    """Rows of the keys that ``owner``'s constructor takes, with the meanings in its docstring."""
    meanings = argument_meanings(owner)
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, parameter in inspect.signature(owner).parameters.items():
        if name in left_out or parameter.kind is parameter.VAR_KEYWORD:
            continue
        given = parameter.default
        default = "required" if given is parameter.empty else json.dumps(given, default=str)
        kind = type_words(parameter.annotation)
        cells = f"`{prefix}.{name}`", kind, code(default), meanings.get(name, "")
        rows.append(f"| {' | '.join(cell_text(cell) for cell in cells)} |")
    return rows


def argument_meanings(owner: Any) -> dict[str, str]:
    """Meanings by argument, from ``Args`` and ``Attributes`` of the docstring."""
    found = parse(inspect.getdoc(owner) or "").params
    return {p.arg_name: " ".join((p.description or "").split()) for p in found}


def code(text: str) -> str:
    return f"`{text}`"


def cell_text(text: str) -> str:
    """Markdown for a cell of a table: double backticks of docstrings become single ones."""
    return text.replace("``", "`").replace("|", "\\|")


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown: its indented equations are code blocks as they stand."""
    text = inspect.cleandoc(docstring or "").replace("``", "`")
    text = re.sub(r"(?m)^(Args|Attributes|Returns|Raises):$", r"**\1**\n", text)
    return re.sub(r"(?m)^ {4}(\*{0,2}\w+(?:, \w+)*): (?=\S)", r"* `\1`: ", text)


def losses_page() -> str:
    """Terms of ``model.loss`` with options and docstrings."""
    from lightning_seg.training.losses import SOFTMAX_TERMS, TERMS

    lines = ["# Losses", "", "`model.loss` is a weighted sum of terms:", ""]
    lines += ["```yaml", "model:", "  loss: {bce: {weight: 0.5, pos_weight: 5}, dice: 0.5}", "```"]
    for name, term in (TERMS | SOFTMAX_TERMS).items():
        options = {
            key: parameter.default
            for key, parameter in inspect.signature(term).parameters.items()
            if parameter.default is not parameter.empty and key != "weight"
        }
        lines += ["", f"## {name}", "", markdown(term.__doc__), ""]
        if name in SOFTMAX_TERMS:
            lines += ["Takes `classes: exclusive`.", ""]
        if options:
            given = ", ".join(f"`{key}` ({value!r})" for key, value in options.items())
            lines += [f"Options with their defaults: {given}."]
    return "\n".join([*lines, ""])


def augmentation_page() -> str:
    """The presets of ``data.augment`` as they stand in their files."""
    lines = [
        "# Augmentation presets",
        "",
        "`data.augment` is the name of a preset or a list of Albumentations' transforms. What a",
        "sample becomes depends on seed, epoch and image alone. The presets, as they are:",
    ]
    for file in sorted((PACKAGE / "data" / "augment" / "presets").glob("*.yaml")):
        lines += ["", f"## {file.stem}", "", "```yaml", file.read_text("utf-8").rstrip(), "```"]
    return "\n".join([*lines, ""])


def datasets_page() -> str:
    """Data sets with their source, terms, classes, protocol and options."""
    from lightning_seg.data.sources.base.registry import DATASETS, source_class

    lines = ["# Data sets", "", "Values of `data.dataset`; `lightning-seg data download` fetches"]
    lines += ["those whose owners allow it. Options are `data.dataset_options`."]
    for name in sorted(DATASETS):
        kind = source_class(name)
        classes = getattr(kind, "classes", ())
        lines += ["", f"## {name}", "", markdown(inspect.getmodule(kind).__doc__), ""]  # type: ignore[union-attr]
        if isinstance(classes, tuple) and classes:
            lines += [f"Classes: {', '.join(classes)}.", ""]
        if isinstance(getattr(kind, "default_protocol", None), str) and kind.default_protocol:
            lines += [f"Default protocol: `{kind.default_protocol}`.", ""]
        options = [key for key in inspect.signature(kind).parameters if key != "root"]
        if options:
            lines += [f"Options: {', '.join(map(code, options))}."]
    return "\n".join([*lines, ""])


def protocols_page() -> str:
    """Named splits with digest, sizes and leaks."""
    from lightning_seg.data.splits import protocol_names

    lines = [
        "# Protocols",
        "",
        "A protocol is a named split, a file of ids whose digest stands in each run. Beside these,",
        "`auto` divides any data set by group with a seed, `fold-1-of-5` and `leave-<group>` are",
        "rules. The first lines of each file:",
    ]
    for name in protocol_names():
        text = (PACKAGE / "data" / "protocols" / f"{name}.csv").read_text("utf-8")
        head = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
        lines += ["", f"## {name}", "", "```text", *head, "```"]
    return "\n".join([*lines, ""])


def encoders_page() -> str:
    """Which networks take an encoder, and timm's families."""
    import timm

    from lightning_seg.models.frame import registry

    free = [name for name in registry.names() if "encoder" in registry.options(name)]
    families = sorted(timm.list_modules())
    lines = [
        "# Encoders",
        "",
        "`model.encoder` is the name of a timm backbone that gives feature maps, with its",
        "pre-trained tag where one is meant: `convnext_tiny.fb_in1k`. `lightning-seg models",
        "--encoders 'resnet*'` lists names. `model.pretrained: true` takes timm's weights from the",
        "hub's cache or `$LIGHTNING_SEG_WEIGHTS/<name>.safetensors`.",
        "",
        f"Networks that take one: {', '.join(map(code, free))}.",
        "",
        f"timm {timm.__version__}, which built this page, has {len(families)} families:",
        "",
        f"{', '.join(map(code, families))}.",
        "",
    ]
    return "\n".join(lines)


def network_page(name: str, recipes: list[str], result: str) -> str:
    """One network: head of its file, data flow, options, proof, recipes and own result."""
    from lightning_seg.models.frame import registry
    from lightning_seg.models.frame.listing import count

    cls, proof = registry.find(name), networks_page.PROOFS.get(name)
    source = (PACKAGE / "models" / f"{name}.py").read_text(encoding="utf-8")
    lines = [f"# {name}", "", markdown(ast.get_docstring(ast.parse(source))), ""]
    lines += ["## Data flow", "", *_diagram_lines(name), "", "## Options", ""]
    lines += [*key_table("model.options", cls, ("in_channels", "num_classes", "encoder")), ""]
    if proof:
        parameters, operations = count(name, proof.size, **proof.form)
        form = ", ".join(f"{key}: {value}" for key, value in proof.form.items()) or "default"
        tests = ", ".join(f"`tests/models/{test}`" for test in proof.tests)
        lines += ["## Counts and proof", "", "| | |", "|---|---|", f"| form | {form} |"]
        lines += [f"| parameters | {parameters:,} |"]
        lines += [f"| multiply-adds | {operations / 1e9:.2f} G at {proof.size} px |"]
        lines += [f"| counts held against | {proof.counts} |", f"| outputs | {proof.outputs} |"]
        lines += [f"| tests | {tests} |", ""]
    lines += ["## Recipes and own result", ""]
    lines += [f"Recipes in `experiments/`: {', '.join(map(code, recipes)) or 'none'}.", ""]
    lines += [f"Own result, Dice as the mean over images: {result}."]
    return "\n".join([*lines, ""])


def _diagram_lines(name: str) -> list[str]:
    picture = network_diagram.draw_network(name)
    return [
        f"The modules of the default form on an image of {network_diagram.SIDE} x "
        f"{network_diagram.SIDE} pixels, drawn from the code: from left to right as they follow, from",
        "top to bottom as resolution falls. Each box gives its output as channels x height x width.",
        "",
        '<div class="diagram" tabindex="0">',
        picture,
        "</div>",
    ]


def networks_index(names: list[str]) -> str:
    from lightning_seg.models.frame.listing import title

    lines = ["# Networks", "", "| network | |", "|---|---|"]
    lines += [f"| [{name}]({name}.md) | {cell_text(title(name))} |" for name in names]
    lines += ["", "```{toctree}", ":hidden:", "", *names, "```", ""]
    return "\n".join(lines)


PAGES: Mapping[str, Callable[[], str]] = {
    "command-line": command_line_page,
    "recipe": recipe_page,
    "losses": losses_page,
    "augmentation": augmentation_page,
    "datasets": datasets_page,
    "protocols": protocols_page,
    "encoders": encoders_page,
}


def write_all(folder: Path) -> None:
    """Write every generated page below ``folder``; a page that stays the same keeps its time."""
    for name, page in PAGES.items():
        _write(folder / f"{name}.md", page())
    models = import_module("lightning_seg.models")
    recipes, results = networks_page.architecture_recipes(), networks_page.own_results()
    for name in models.names():
        text = network_page(name, recipes.get(name, []), results.get(name, "none recorded"))
        _write(folder / "networks" / f"{name}.md", text)
    _write(folder / "networks" / "index.md", networks_index(models.names()))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
