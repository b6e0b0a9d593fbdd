"""What computes a network's logits in prediction: torch, or an engine that reads ONNX.

An engine is taken once it was held against torch on the first images: masks equal but for a few
pixels, which are counted. Where it is absent, cannot run the network or disagrees, torch computes
and a sentence says so. ``auto`` takes the fastest of those that agree, by a short measurement that
is kept in the cache with the network as ONNX.
"""

import contextlib
import copy
import hashlib
import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_seg import __version__
from lightning_seg.data.store.folders import default_folder
from lightning_seg.errors import InputError, unknown, without_log
from lightning_seg.files import write_whole
from lightning_seg.inference.options import ENGINES, PRECISIONS
from lightning_seg.models import Output
from lightning_seg.models.frame.normalization import ImageNetwork
from lightning_seg.runs.environment import cpu_model, package_version

_OPSET = 20
_SHAPES = 4  # sizes of images for which an engine is prepared; torch computes the others
_MEASURED = 3  # runs of each engine, of which the median counts
Logits = Callable[[Tensor], Tensor]  # (B, C, H, W) uint8 -> (B, K, H, W) float32


class _Agreement(NamedTuple):
    """How far an engine may be from torch: share of the masks' pixels, and a probability."""

    pixels: float
    probability: float


_AGREEMENTS = {"32": _Agreement(1e-4, 1e-3), "bf16": _Agreement(1e-2, 0.15)}


class UnusableError(Exception):
    """An engine that cannot compute this network here, and why."""


def check_engine(engine: str, precision: str) -> str:
    """``engine`` itself; InputError for an unknown one, one that is not installed, and a precision
    that it does not have."""
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if engine in ("torch", "auto"):
        return engine
    if find_spec(engine) is None:
        extra = "onnx" if engine == "onnxruntime" else engine
        raise InputError(
            f"--engine {engine} needs {engine}, which is absent; "
            f"pip install 'lightning_seg[{extra}]', or give --engine torch."
        )
    if engine not in _able(precision):
        raise InputError(
            f"--engine {engine} does not compute in --precision {precision}; "
            "give --precision 32, or --engine torch."
        )
    return engine


def _able(precision: str) -> tuple[str, ...]:
    """The engines beside torch that have a precision."""
    return {"32": ("onnxruntime", "openvino"), "bf16": ("openvino",)}.get(precision, ())


class EngineNetwork:
    """A trained network on the CPU whose logits an engine computes.

    Args:
        module: in evaluation mode.
        engine: of ``ENGINES``.
        precision: of ``PRECISIONS``.
    """

    def __init__(self, module: ImageNetwork, engine: str, precision: str = "32") -> None:
        self.module, self.engine, self.precision = module, engine, precision
        self.notes: list[str] = []  # what was chosen and why, in words
        self._chosen: dict[tuple[int, ...], Logits | None] = {}
        self._lock = threading.Lock()

    def probabilities(self, image: Tensor) -> Tensor:
        """As `ImageNetwork.probabilities`."""
        compute = self._for_shape(image)
        if compute is None:
            return self.module.probabilities(image)
        return self._probabilities(compute, image)

    def _probabilities(self, compute: Logits, image: Tensor) -> Tensor:
        return self.module.checked_probabilities(self.module.scaling(compute(image)))

    def _for_shape(self, image: Tensor) -> Logits | None:
        """The engine for images of this size, chosen when the first of them comes; None: torch."""
        shape = tuple(image.shape[1:])
        if image.device.type != "cpu":
            return None
        with self._lock:
            if shape not in self._chosen:
                full = len(self._chosen) >= _SHAPES
                self._chosen[shape] = None if full else self._choose(image)
            return self._chosen[shape]

    def _choose(self, image: Tensor) -> Logits | None:
        names = [name for name in _able(self.precision) if self.engine in (name, "auto")]
        able: dict[str, Logits | None] = {}
        trust = _KeptChoice(self, image)
        if self.engine == "auto":
            names = [name for name in names if find_spec(name) is not None]
            names = [name for name in names if trust.engine in (name, None)]
        for name in names:
            try:
                able[name] = self._agreeing(name, image)
            except UnusableError as error:
                self.notes.append(f"{name} is not used: {error}")
        if not able:
            self.notes.append("torch computes")
            return None
        if self.engine != "auto" or trust.engine is not None:
            return next(iter(able.values()))
        able["torch"] = None
        seconds = {name: self._seconds(compute, image) for name, compute in able.items()}
        best = min(seconds, key=lambda name: seconds[name])
        trust.keep(best)
        per_image = {name: 1000 * each / len(image) for name, each in seconds.items()}
        found = ", ".join(f"{name} {each:.1f}" for name, each in per_image.items())
        self.notes.append(f"{best} computes, the fastest (milliseconds per image: {found})")
        return able[best]

    def _seconds(self, compute: Logits | None, image: Tensor) -> float:
        """Seconds of a batch, the median of a few."""
        found = []
        for _ in range(_MEASURED):
            start = time.perf_counter()
            if compute is None:
                self.module.probabilities(image)
            else:
                self._probabilities(compute, image)
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    def _agreeing(self, name: str, image: Tensor) -> Logits:
        """The engine, held against torch in float32 on these images; UnusableError where it
        disagrees."""
        file = self._onnx_file(image)
        try:
            compute = _engine(name, file, self.precision)
        except UnusableError:
            file.unlink(missing_ok=True)  # a damaged one is written anew the next time
            raise
        ours = self._probabilities(compute, image)
        with torch.autocast("cpu", enabled=False):
            theirs = self.module.probabilities(image)
        changed = int(((ours > 0.5) != (theirs > 0.5)).sum())
        farthest = float((ours - theirs).abs().max())
        bound = _AGREEMENTS[self.precision]
        text = (
            f"{changed} of {ours.numel()} pixels of the first masks are others than torch's, "
            f"probabilities differ by up to {farthest:.0e}"
        )
        if changed > bound.pixels * ours.numel() or farthest > bound.probability:
            raise UnusableError(text)
        self.notes.append(f"{name}: {text}")
        return compute

    def _onnx_file(self, image: Tensor) -> Path:
        """The network as ONNX for images of this size, from the cache or written into it."""
        file = default_folder() / "engines" / f"{self.digest(image)}.onnx"
        if not file.is_file():
            write_whole(file, _onnx_content(self.module, image))
        return file

    def digest(self, image: Tensor) -> str:
        """A name for the network with its weights, at the size of these images."""
        content = hashlib.sha256(repr((self.module.form, image.shape[1:])).encode())
        weights = self.module.net.state_dict()
        weights |= {"mean": self.module.mean, "std": self.module.std}
        for name, tensor in weights.items():
            content.update(name.encode())
            content.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        content.update(f"{__version__} {torch.__version__} {_OPSET}".encode())
        return content.hexdigest()[:24]


class _KeptChoice:
    """What ``auto`` measured before for such a network, batch and machine."""

    def __init__(self, network: EngineNetwork, image: Tensor) -> None:
        libraries = [package_version(name) or "" for name in ("onnxruntime", "openvino")]
        facts = [cpu_model(), torch.get_num_threads(), len(image), network.precision, *libraries]
        more = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
        self._file = default_folder() / "engines" / f"{network.digest(image)}-{more}.json"
        self.engine: str | None = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))["engine"]
            self.engine = kept if kept in ENGINES else None

    def keep(self, engine: str) -> None:
        """Keep a choice, where the cache can be written."""
        with contextlib.suppress(InputError):
            write_whole(self._file, json.dumps({"engine": engine}).encode())


class _Graph(nn.Module):
    """images (B, H, W, C) uint8 -> logits (B, K, H, W) float32, as `ImageNetwork` computes them."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: ImageNetwork) -> None:
        super().__init__()
        self.net = copy.deepcopy(module.net)
        for tensor in (*self.net.parameters(), *self.net.buffers()):
            tensor.data = tensor.data.contiguous()  # torch.export cannot save channels_last well
        self.register_buffer("mean", module.mean.clone())
        self.register_buffer("std", module.std.clone())
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        image = images.permute(0, 3, 1, 2).float() / 255
        output = self.net((image - self.mean) / self.std)
        return output.logits if isinstance(output, Output) else output


def _onnx_content(module: ImageNetwork, image: Tensor) -> bytes:
    """An ONNX file of the network for any number of images of this size."""
    for library in ("onnx", "onnxscript"):
        if find_spec(library) is None:
            raise UnusableError(f"{library} is absent; pip install 'lightning_seg[onnx]'")
    channels, height, width = image.shape[1:]
    # two of them: torch.export takes one for the only number
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    try:
        with torch.inference_mode(False), torch.no_grad(), without_log():
            program = torch.onnx.export(
                _Graph(module),
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["logits"],
                opset_version=_OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
            content: bytes = program.model_proto.SerializeToString()  # type: ignore[union-attr]
    except Exception as error:  # its failures are of many types
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnusableError(f"torch cannot write this network as ONNX ({line[:120]})") from error
    return content


def _engine(name: str, file: Path, precision: str) -> Logits:
    """The logits of an ONNX file; UnusableError where the engine does not take it."""
    prepare = {"onnxruntime": _onnxruntime, "openvino": _openvino}[name]
    try:
        return prepare(file, precision)
    except Exception as error:  # their errors have no common class but Exception
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnusableError(f"it does not load the network ({line[:120]})") from error


def _onnxruntime(file: Path, _: str) -> Logits:
    # read at import: Linux builds report each session from 1.29 on
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = torch.get_num_threads()
    place = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(file), settings, providers=place)

    def compute(image: Tensor) -> Tensor:
        [logits] = session.run(None, {"images": image.permute(0, 2, 3, 1).contiguous().numpy()})
        return torch.from_numpy(logits)

    return compute


def _openvino(file: Path, precision: str) -> Logits:
    import openvino

    core = openvino.Core()
    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if PRECISIONS[precision] else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = core.compile_model(str(file), "CPU", hints)
    own = threading.local()  # a request serves one thread

    def compute(image: Tensor) -> Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        images = image.permute(0, 2, 3, 1).contiguous().numpy()
        logits: Any = own.request.infer([images])[0]
        return torch.from_numpy(logits.copy())

    return compute
