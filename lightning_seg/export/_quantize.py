"""int8 for CPUs: convolutions in whole numbers, by onnxruntime's static quantisation; other layers
stay in float32."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lightning_seg.errors import InputError

LAYERS = ["Conv", "Gemm"]


def quantize_int8(model: Any, batches: Iterable[np.ndarray]) -> Any:
    """The ONNX model with weights in int8, per channel, and activations in uint8 whose ranges are
    those seen in ``batches``.

    Args:
        batches: what the model takes, of images that are not of the test split.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, batches: Iterable[np.ndarray]) -> None:
            self.batches: Iterator[np.ndarray] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {model.graph.input[0].name: batch}

    with tempfile.TemporaryDirectory() as scratch:
        plain, ready, quantized = (
            Path(scratch) / f"{name}.onnx" for name in ("plain", "ready", "quantized")
        )
        onnx.save(model, plain)
        try:
            quant_pre_process(
                plain, ready, skip_symbolic_shape=True
            )  # folds batch norm into the convolution before it
            convolutions = [
                node.name for node in onnx.load(ready).graph.node if node.op_type == "Conv"
            ]
            quantize_static(
                ready,
                quantized,
                Reader(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=LAYERS,
                nodes_to_exclude=[
                    *convolutions[:1],
                    *convolutions[-1:],
                ],  # the most sensitive ones, and cheap
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # its failures are of many types
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise InputError(
                f"onnxruntime cannot quantise this network: {line}; export it in float32."
            ) from error
        return onnx.load(quantized)
