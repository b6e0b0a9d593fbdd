"""Sphinx configuration; ``make docs`` builds the site without network, warnings are errors."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
# commands of tutorials run in the kernel's shell, which must find this checkout
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

import reference_pages  # noqa: E402
import results_pages  # noqa: E402
from sphinx.errors import ExtensionError  # noqa: E402

from lightning_seg import __version__  # noqa: E402
from lightning_seg.plots import PLOT_STYLE  # noqa: E402

project = "lightning_seg"
author = "the lightning_seg maintainers"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute"]
default_role = "code"  # docstrings write `name`

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
# tutorials are executed at each build; a cell that fails ends it
nb_execution_mode = "off" if os.environ.get("DOCS_EXECUTE") == "0" else "force"
# unexecuted cells have no kernel that names their language
unexecuted = ["myst-nb.lexer"] if nb_execution_mode == "off" else []
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
suppress_warnings = unexecuted

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88  # then a line for each argument
napoleon_attr_annotations = False  # NDArray[np.str_] would read as a link
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"lightning_seg {release}"
html_static_path = ["_static"]
html_css_files = ["site.css", "plot.css"]
html_extra_path = ["reference/generated/site"]
html_show_sourcelink = False
html_show_copyright = False

GENERATED = ROOT / "docs" / "reference" / "generated"
reference_pages.write_all(GENERATED)
results_pages.write_results(GENERATED)
# files of the repository that pages link to -> the page of the site that shows them
SHOWN_HERE = {
    "../experiments/results/LEADERBOARD.md": "/reference/generated/results.md",
    "../benchmarks/RESULTS.md": "/reference/generated/speed.md",
}


def show_here(app, page, source) -> None:
    """Let links to files of the repository lead to pages of the site."""
    for file, shown in SHOWN_HERE.items():
        source[0] = re.sub(rf"\]\((\.\./)*{re.escape(file)}\)", f"]({shown})", source[0])


def write_style(app, exception) -> None:
    """Put the style of plots beside the site's own."""
    if exception is None:
        (Path(app.outdir) / "_static" / "plot.css").write_text(PLOT_STYLE, encoding="utf-8")


def refuse_pictures_as_text(app, error) -> None:
    """End the build where a tutorial shows the name of a picture's class in its place."""
    for page in Path(app.outdir).glob("tutorials/*.html"):
        if error is None and "IPython.core.display" in page.read_text(encoding="utf-8"):
            raise ExtensionError(f"{page.name} has text where a picture is to be")


def setup(app) -> None:
    app.connect("source-read", show_here)
    app.connect("build-finished", write_style)
    app.connect("build-finished", refuse_pictures_as_text)
