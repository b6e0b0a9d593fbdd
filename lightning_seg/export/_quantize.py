"""int8 for CPUs: convolutions in whole numbers, by onnxruntime's static quantisation; other layers
stay in float32."""

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lightning_seg.errors import InputError

LAYERS = ["Conv", "Gemm"]
SPARED = (0, 1 / 8, 1 / 4, 1 / 2)  # shares of the convolutions that stay in float32, tried in turn
_LOOKED_AT = 2  # batches by which it is found which convolutions lose most


class Int8Quantization:
    """An ONNX model in int8: weights per channel, activations in uint8 whose ranges are those seen in
    batches. A context, with which its files end.

    The first and the last convolution, the most sensitive ones, and cheap, stay in float32.

    Args:
        model: in float32.
        batches: what the model takes, of images that are not of the test split.

    Errors: InputError where onnxruntime cannot quantise the model.
    """

    def __init__(self, model: Any, batches: Iterable[np.ndarray]) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._input = model.graph.input[0].name
        self._batches = list(batches)
        self._scratch = tempfile.TemporaryDirectory()
        plain, self._ready = self._file("plain"), self._file("ready")
        onnx.save(model, plain)
        with _told():
            # folds batch norm into the convolution before it
            quant_pre_process(plain, self._ready, skip_symbolic_shape=True)
        nodes = onnx.load(self._ready).graph.node
        self._convolutions = [node for node in nodes if node.op_type == "Conv"]

    def quantized(self, spared: Collection[str] = ()) -> Any:
        """The model in int8 but for the convolutions of these names."""
        import onnx

        return onnx.load(self._write(spared))

    def spared(self, share: float) -> list[str]:
        """The names of a share of the convolutions that are quantised: those that lose most."""
        if share == 0:
            return []
        return self._by_loss[: math.ceil(share * len(self._by_loss))]

    @cached_property
    def _by_loss(self) -> list[str]:
        """The names of all convolutions but the first and the last, those first whose weights and
        maps lose most in whole numbers (by the ratio of signal to noise)."""
        from onnxruntime.quantization import qdq_loss_debug as debug

        file = self._write(())
        shown = self._file("shown")
        with _told():
            debug.modify_model_output_intermediate_tensors(file, shown)
            seen = debug.collect_activations(str(shown), self._reader(self._batches[:_LOOKED_AT]))
            weights = debug.create_weight_matching(str(self._ready), str(file))
        ratio = debug.compute_signal_to_quantization_noice_ratio
        kept = {
            name: ratio(found["pre_qdq"], found["post_qdq"])
            for name, found in debug.create_activation_matching(seen).items()
        } | debug.compute_weight_error(weights)

        def least(node: Any) -> float:
            tensors = (*node.input[:2], *node.output)
            return min((kept[name] for name in tensors if name in kept), default=math.inf)

        return [node.name for node in sorted(self._convolutions[1:-1], key=least)]

    def _write(self, spared: Collection[str]) -> Path:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        file = self._file("quantized")
        ends = [node.name for node in (*self._convolutions[:1], *self._convolutions[-1:])]
        with _told():
            quantize_static(
                self._ready,
                file,
                self._reader(self._batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=LAYERS,
                nodes_to_exclude=[*ends, *spared],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        return file

    def _reader(self, batches: Sequence[np.ndarray]) -> Any:
        from onnxruntime.quantization import CalibrationDataReader

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self, name: str) -> None:
                self._name, self._rest = name, iter(batches)

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self._rest, None)
                return None if batch is None else {self._name: batch}

        return Reader(self._input)

    def _file(self, name: str) -> Path:
        return Path(self._scratch.name) / f"{name}.onnx"

    def __enter__(self) -> "Int8Quantization":
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()


@contextmanager
def _told() -> Iterator[None]:
    """Failures of onnxruntime, which are of many types, as one sentence."""
    try:
        yield
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise InputError(
            f"onnxruntime cannot quantise this network: {line}; export it in float32."
        ) from error
