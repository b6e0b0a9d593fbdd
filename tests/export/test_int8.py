"""Which convolutions stay in float32 where all of them in whole numbers would change the masks."""

import numpy as np
import pytest

from lightning_seg.export import verify
from lightning_seg.export._quantize import Int8Quantization
from lightning_seg.export.onnx import OnnxOptions, export_onnx
from lightning_seg.export.verify import MasksChangedError
from tests.inference.conftest import write_checkpoint

onnx = pytest.importorskip("onnx")
CHANNELS, LOSSY = 8, 2


@pytest.fixture(scope="module")
def chain():
    """Five convolutions, one of which has kernels of one large weight among small ones."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for place in range(5):
        kernel = rng.normal(0, 0.1, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        if place == LOSSY:
            kernel *= 0.04  # half a step of the large ones
            kernel[np.arange(CHANNELS), np.arange(CHANNELS), 1, 1] = 1
        name = "image" if place == 0 else f"map{place}"
        ends = [name, f"weight{place}"], ["logits" if place == 4 else f"map{place + 1}"]
        nodes.append(onnx.helper.make_node("Conv", *ends, f"conv{place}", pads=[1, 1, 1, 1]))
        weights.append(onnx.numpy_helper.from_array(kernel, f"weight{place}"))
    shape = [1, CHANNELS, 16, 16]
    ends = [
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name in ("image", "logits")
    ]
    graph = onnx.helper.make_graph(nodes, "chain", *ends, weights)
    opset = onnx.helper.make_opsetid("", 20)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)


@pytest.fixture(scope="module")
def quantization(chain):
    rng = np.random.default_rng(1)
    batches = (rng.normal(size=(1, CHANNELS, 16, 16)).astype(np.float32) for _ in range(4))
    with Int8Quantization(chain, batches) as found:
        yield found


def in_whole_numbers(model):
    """The convolutions whose weights are quantised."""
    source = {name: node.op_type for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if source.get(node.input[1]) == "DequantizeLinear"]


def test_the_ends_and_the_spared_convolutions_stay_in_float32(quantization):
    assert in_whole_numbers(quantization.quantized()) == ["conv1", "conv2", "conv3"]
    assert in_whole_numbers(quantization.quantized(["conv2"])) == ["conv1", "conv3"]


def test_the_convolution_that_loses_most_is_spared_first(quantization):
    assert quantization.spared(0) == []
    assert quantization.spared(1 / 8) == [f"conv{LOSSY}"]
    half = quantization.spared(1 / 2)
    assert half[0] == f"conv{LOSSY}"
    assert len(half) == 2


@pytest.mark.parametrize("refusals", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_as_few_convolutions_are_spared_as_the_masks_need(tmp_path, monkeypatch, refusals):
    checkpoint = write_checkpoint(
        tmp_path / "a.ckpt", dataset="phantom_polyp", options={"widths": [4, 8, 8]}
    )
    seen = []

    def check(variant, dice):
        seen.append(variant)
        if len(seen) <= refusals:
            raise MasksChangedError("int8 changes the masks")

    monkeypatch.setattr(verify, "_check_variant", check)
    output = tmp_path / "a.onnx"
    found = export_onnx(checkpoint, output, OnnxOptions(quantize="int8"))
    assert len(seen) == refusals + 1
    model = onnx.load(output)
    kept = {entry.key: entry.value for entry in model.metadata_props}["convolutions_in_float32"]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    inner = len(convolutions) - 2
    share = (0, 1 / 8, 1 / 4, 1 / 2)[refusals]
    assert int(kept) == int(np.ceil(share * inner))
    assert len(in_whole_numbers(model)) == inner - int(kept)
    assert ("more in float32" in found.verified.text) == bool(refusals)
