"""Code outside the project that fails when it is imported is told in a sentence."""

import importlib
import sys
from pathlib import Path

import pytest

from lightning_seg import models
from lightning_seg.data.sources.base import source_class, trust_source
from lightning_seg.errors import InputError

FAULTY = {
    "syntax": (
        "import torch\n\nclass Net(\n",
        r"faulty\.py, line 3: SyntaxError: '\(' was never closed",
    ),
    "indent": ("class Net:\npass\n", r"faulty\.py, line 2: IndentationError: expected an indented"),
    "null": ("x = 1\0\n", "source code string cannot contain null bytes"),
    "letters": ("x = '\xff'\n", r"faulty\.py, line 1: SyntaxError: \(unicode error\)"),
    "division": ("import torch\nx = 1 / 0\n", r"faulty\.py, line 2: ZeroDivisionError: division"),
    "library": (
        "import json\njson.loads('{')\n",
        r"faulty\.py, line 2: JSONDecodeError: Expecting",
    ),
    "lacking": ("import nowhere_to_be_found\n", r"faulty\.py, line 1: ModuleNotFoundError: No mod"),
    "assertion": ("assert False\n", r"faulty\.py, line 1: AssertionError"),
    "lines": ("raise ValueError('one\\ntwo')\n", r"faulty\.py, line 1: ValueError: one\.$"),
    "exit": ("import sys\nsys.exit(3)\n", r"faulty\.py, line 2: its code ends the process"),
    "recursion": ("def f(): return f()\nf()\n", r"faulty\.py, line 1: RecursionError: maximum"),
    "circle": ("from faulty import Net\n", r"faulty\.py, line 1: ImportError: cannot import name"),
}


@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.parametrize("kind", ["architecture", "data set"])
def test_a_fault_in_outside_code_is_a_sentence_with_file_line_and_cause(
    kind: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = FAULTY[fault]
    (tmp_path / "faulty.py").write_bytes(code.encode("latin-1"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    importlib.invalidate_caches()
    trust_source("faulty:Net")
    find = {"architecture": models.create, "data set": source_class}[kind]
    with pytest.raises(InputError, match=said) as caught:
        find("faulty:Net")
    assert str(caught.value).startswith(f"no {kind} 'faulty:Net': ")
    assert "\n" not in str(caught.value)
