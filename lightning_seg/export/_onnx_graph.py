"""Surgery on ONNX graphs: names of dimensions, padding to a multiple, weights in bfloat16,
metadata."""

import json
from typing import Any

import numpy as np

_MANY = 64  # values from which a tensor is a weight worth storing in half the bytes


def name_dimensions(model: Any, names: tuple[str, ...]) -> None:
    """Give the free dimensions of the (only) input these names, and those of the outputs that are
    the same ones."""
    del model.graph.value_info[:]  # shapes of what lies between, in the old names
    dims = model.graph.input[0].type.tensor_type.shape.dim
    known = {dim.dim_param: name for dim, name in zip(dims, names, strict=True) if dim.dim_param}
    for value in (*model.graph.input, *model.graph.output):
        for position, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param:
                places = ("batch", "classes", "height", "width")
                dim.dim_param = known.get(
                    dim.dim_param,
                    places[position] if value in model.graph.output else names[position],
                )


def pad_inputs(
    model: Any,
    multiple: int,
    axes: tuple[int, int],
) -> None:
    """Let the graph itself repeat the last row and column of its input up to a multiple, and cut
    its outputs back.

    Args:
        axes: height and width of the input; those of the outputs are 2 and 3.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    image = graph.input[0]
    for node in graph.node:
        node.input[:] = [f"{name}_padded" if name == image.name else name for name in node.input]
    rank = len(image.type.tensor_type.shape.dim)
    before = [0] * (rank + axes[0])
    after = [0] * (rank - axes[1] - 1)
    constants = {
        "multiple": [multiple],
        "almost": [multiple - 1],
        "before": before,
        "after": after,
        "zeros": [0, 0],
        "sides": [2, 3],
        "axes": list(axes),
    }
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"pad_{name}"))
    node = helper.make_node
    head = [
        node("Shape", [image.name], ["pad_shape"]),
        node("Gather", ["pad_shape", "pad_axes"], ["pad_size"]),
        node("Add", ["pad_size", "pad_almost"], ["pad_up"]),
        node("Div", ["pad_up", "pad_multiple"], ["pad_cells"]),
        node("Mul", ["pad_cells", "pad_multiple"], ["pad_target"]),
        node("Sub", ["pad_target", "pad_size"], ["pad_missing"]),
        node("Concat", ["pad_before", "pad_missing", "pad_after"], ["pad_pads"], axis=0),
        node("Pad", [image.name, "pad_pads"], [f"{image.name}_padded"], mode="edge"),
    ]
    tail = []
    for output in graph.output:
        for step in graph.node:
            step.output[:] = [
                f"{name}_padded" if name == output.name else name for name in step.output
            ]
            step.input[:] = [
                f"{name}_padded" if name == output.name else name for name in step.input
            ]
        tail.append(
            node(
                "Slice",
                [f"{output.name}_padded", "pad_zeros", "pad_size", "pad_sides"],
                [output.name],
            )
        )
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*head, *body, *tail])


def store_bfloat16(model: Any) -> None:
    """Store weights as bfloat16, half the bytes; the graph turns them into float32, in which it
    computes."""
    import ml_dtypes
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _MANY:
            continue
        stored = helper.make_tensor(
            f"{tensor.name}_bf16",
            TensorProto.BFLOAT16,
            values.shape,
            values.astype(ml_dtypes.bfloat16).tobytes(),
            raw=True,
        )
        casts.append(helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(stored)
    body = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *body])


def set_metadata(model: Any, facts: dict[str, Any]) -> None:
    """``facts`` as metadata_props: text as it is, anything else as JSON."""
    from onnx import helper

    text = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()
    }
    helper.set_model_props(model, text)
