"""What a command need not import: for ``--help`` no library that computes, for a run none of the
libraries that others import beside what they are used for here.

`stand_ins` is what documentation builders do: a parser is read, nothing is computed, so that empty
classes serve. `lean_lightning` leaves out torchmetrics' optional companions and torch's compiler,
which Lightning imports for a class that it compares with.
"""

import functools
import importlib
import sys
from abc import ABCMeta
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

COMPUTING = (
    "albumentations",
    "huggingface_hub",
    "lightning",
    "matplotlib",
    "monai",
    "onnx",
    "onnxruntime",
    "openvino",
    "optuna",
    "pandas",
    "rich",
    "safetensors",
    "scipy",
    "skimage",
    "sklearn",
    "tensorboard",
    "timm",
    "torch",
    "torchmetrics",
    "torchvision",
    "transformers",
)  # libraries that no option needs
_OURS = ("lightning_seg", "hpo", "experiments")
_COMPANIONS = ("matplotlib", "onnxruntime", "scipy", "torchvision", "transformers")
_COMPILER = "torch._dynamo"
_COMPILER_TOOLS = "torch._dynamo.utils"


class _EmptyMeta(ABCMeta):
    """Any attribute, index and call of an empty class is another one, or the class itself."""

    def __getattr__(cls, name: str) -> Any:
        return _empty_class(name)

    def __getitem__(cls, _: Any) -> Any:
        return cls


class _Empty(metaclass=_EmptyMeta):
    """Stands for any class, function or value of a library; as a decorator it changes nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything."""

    def __init_subclass__(cls, **_: Any) -> None:
        """Take any keyword."""

    def __call__(self, *args: Any, **_: Any) -> Any:
        return args[0] if args else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty()


def _empty_class(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    # filters of warnings ask for the class of one
    bases = (_Empty, Warning) if name.endswith("Warning") else (_Empty,)
    return _EmptyMeta(name, bases, {})


class _EmptyModule(ModuleType):
    __path__ = []  # noqa: RUF012, a package with no folder

    def __getattr__(self, name: str) -> Any:
        return _empty_class(name)


class _EmptyFinder:
    """Finds every module of the libraries in `COMPUTING`, and loads it empty."""

    def find_spec(
        self,
        name: str,
        path: Any = None,
        target: Any = None,
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if _root(name) in COMPUTING else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


@contextmanager
def stand_ins() -> Iterator[None]:
    """Imports within find empty libraries; nothing that was imported so is left behind."""
    before, finder = set(sys.modules), _EmptyFinder()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        for name in set(sys.modules) - before:
            if _root(name) in (*COMPUTING, *_OURS):
                del sys.modules[name]


def print_help(home: str, args: list[str]) -> None:
    """Run the ``main`` of a module for its ``--help`` alone, with stand-ins where they do.

    SystemExit as argparse raises it; a ``main`` that cannot be read so is imported as always.
    """
    if "torch" not in sys.modules:
        try:
            with stand_ins():
                load_command(home)(args)
            return
        except Exception:  # the command itself says below what is wrong
            pass
    load_command(home)(args)


def load_command(home: str) -> Any:
    """The function of a command, which takes its arguments: ``module:function``, or ``main`` of a
    module."""
    module, _, function = home.partition(":")
    return getattr(importlib.import_module(module), function or "main")


def asks_help(args: Sequence[str]) -> bool:
    """Tell whether a command is asked for its options and nothing else."""
    return bool({"-h", "--help"} & {arg.partition("=")[0] for arg in args})


def lean_lightning() -> None:
    """Import Lightning without what this project never uses of it.

    torchmetrics imports scipy, torchvision and others for metrics that nobody here asks for, and
    Lightning imports torch's compiler for one class. Only for a process of this project's command
    line: torchmetrics then takes those companions for absent. Where this does not work, Lightning
    is imported later as it is.
    """
    if "torchmetrics" in sys.modules or "lightning" in sys.modules:
        return
    with suppress(ImportError), _without_companions(), _late_compiler():
        importlib.import_module("lightning.pytorch")


@contextmanager
def _without_companions() -> Iterator[None]:
    """torchmetrics takes what it can do without for absent."""
    from lightning_utilities.core import imports

    real = imports.RequirementCache._check_available

    def check(self: Any) -> None:
        if _root(str(self.requirement or self.module)) in _COMPANIONS:
            self.available, self.message = False, "left out by lightning_seg"
        else:
            real(self)

    hidden = {name: None for name in _COMPANIONS if name not in sys.modules}
    imports.RequirementCache._check_available = check  # type: ignore[method-assign]
    try:
        with _as_modules(hidden):
            yield
    finally:
        imports.RequirementCache._check_available = real  # type: ignore[method-assign]
        imports.package_available.cache_clear()
        imports.module_available.cache_clear()


@contextmanager
def _late_compiler() -> Iterator[None]:
    """Lightning, torch's optimisers and torchvision do without torch's compiler until something is
    compiled."""
    import torch

    if _COMPILER in sys.modules:
        yield
        return
    for kind in vars(torch.optim).values():
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            _leave_uncompiled(kind)
    torch.use_deterministic_algorithms = _determinism_without(torch.use_deterministic_algorithms)
    torch.compiler.disable = _mark_late(torch.compiler.disable)
    with _as_modules({_COMPILER: _compiler_stub()}):
        yield
    sys.modules[_COMPILER_TOOLS] = _tools_stub()
    sys.meta_path.insert(0, _CompilerComes())  # type: ignore[arg-type]


def _determinism_without(real: Any) -> Any:
    """``torch.use_deterministic_algorithms``, which tells the compiler only where it is there."""
    from torch import _C

    def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
        if "torch._inductor" in sys.modules:
            real(mode, warn_only=warn_only)
        else:
            _C._set_deterministic_algorithms(mode, warn_only=warn_only)

    return use_deterministic_algorithms


def _mark_late(real: Any) -> Any:
    """``torch.compiler.disable``, which marks a function once there is a compiler."""

    def disable(
        fn: Any = None,
        recursive: bool = True,
        *,
        reason: str | None = None,
    ) -> Any:
        if fn is None:
            return functools.partial(disable, recursive=recursive, reason=reason)
        if _has_compiler() or not isinstance(fn, FunctionType):
            return real(fn, recursive, reason=reason)
        marked: list[Any] = []

        @functools.wraps(fn)
        def late(*args: Any, **kwargs: Any) -> Any:
            if not _has_compiler():
                return fn(*args, **kwargs)
            if not marked:
                marked.append(real(fn, recursive, reason=reason))
            return marked[0](*args, **kwargs)

        return late

    return disable


def _has_compiler() -> bool:
    """Tell whether torch's compiler is imported, and not what stands for it."""
    return hasattr(sys.modules.get(_COMPILER), "__path__")


def _leave_uncompiled(kind: type) -> None:
    """An optimiser's methods without the import of the compiler, which they only tell to keep
    away."""
    from torch import is_grad_enabled, set_grad_enabled

    for method in list(vars(kind).values()):
        inner = getattr(method, "__wrapped__", None)
        if inner is not None:
            setattr(inner, "__dynamo_disable", inner)
    wrapped = vars(kind).get("step")
    plain = getattr(wrapped, "__wrapped__", None)
    if plain is None or "_use_grad" not in wrapped.__code__.co_qualname:  # type: ignore[union-attr]
        return

    @functools.wraps(plain)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = is_grad_enabled()
        set_grad_enabled(self.defaults["differentiable"])
        try:
            return plain(self, *args, **kwargs)
        finally:
            set_grad_enabled(before)

    kind.step = step  # type: ignore[attr-defined]


class _CompilerComes:
    """Removes what stands for a part of the compiler before the whole is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == _COMPILER:
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            sys.modules.pop(_COMPILER_TOOLS, None)


def _tools_stub() -> ModuleType:
    """The one function of the compiler that torchvision imports; it asks the compiler itself."""

    def is_compile_supported(device_type: str) -> Any:
        importlib.import_module(_COMPILER)
        return sys.modules[_COMPILER_TOOLS].is_compile_supported(device_type)

    stub = ModuleType(_COMPILER_TOOLS)
    vars(stub)["is_compile_supported"] = is_compile_supported
    return stub


@contextmanager
def _as_modules(modules: dict[str, Any]) -> Iterator[None]:
    """Imports within find these under their names."""
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


def _compiler_stub() -> ModuleType:
    """torch's compiler as far as Lightning asks for it: nothing is compiled while it is absent."""

    class Compiled(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return _has_compiler() and isinstance(value, sys.modules[_COMPILER].OptimizedModule)

    stub = ModuleType(_COMPILER)
    vars(stub)["OptimizedModule"] = Compiled("OptimizedModule", (), {})
    return stub


def _root(name: str) -> str:
    """``torch.nn`` and ``torch>=2`` are of ``torch``."""
    for cut in ".<>=!~[; ":
        name = name.partition(cut)[0]
    return name
