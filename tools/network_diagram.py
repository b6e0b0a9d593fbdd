"""The data flow of a network as SVG: modules and shapes as torchview finds them in one forward pass.

Without memory or arithmetic, on the meta device. Left to right: order; top to bottom: resolution.
"""

import warnings
from dataclasses import dataclass
from html import escape
from math import log2
from typing import Any

SIDE = 256  # of the image, in pixels
MOST_BOXES = 45  # a diagram of more is drawn by whole modules
WIDTH, HEIGHT = 156, 40  # of a box, in pixels of the page
STEP, GAP, MARGIN = 196, 12, 16


@dataclass
class Box:
    """One module of the network.

    Attributes:
        title: its place in the network, such as ``decoder.stages.0``.
        kind: its class.
        shape: of its output; empty for several.
    """

    title: str
    kind: str
    shape: tuple[int, ...]
    maps: int = 1
    column: int = 0
    row: int = 0
    slot: int = 0

    @property
    def shape_text(self) -> str:
        if self.shape:
            return " x ".join(str(side) for side in self.shape[1:])
        return f"{self.maps} maps"


Edges = set[tuple[int, int]]  # of keys of boxes


def draw_network(name: str, **arguments: Any) -> str:
    """SVG of the network ``name``, in the colours of the page that it stands in."""
    boxes, edges = data_flow(name, 2, **arguments)
    if len(boxes) > MOST_BOXES:
        boxes, edges = data_flow(name, 1, **arguments)
    place_boxes(boxes, edges)
    return draw_boxes(name, boxes, edges)


def data_flow(name: str, depth: int, **arguments: Any) -> tuple[dict[int, Box], Edges]:
    """Boxes by key and the edges between them.

    Args:
        depth: how deep in the tree of modules a box may lie.
    """
    import torch
    import torchview

    from lightning_seg.models.frame import registry

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = registry.create(name, **arguments).eval()
        graph = torchview.draw_graph(
            net,
            input_data=torch.empty(1, 3, SIDE, SIDE),
            device="meta",
            depth=depth,
            hide_inner_tensors=True,
            hide_module_functions=True,
        )
    titles = {id(module): place for place, module in net.named_modules()}
    kept = {id(module) for module in net.modules() if any(True for _ in module.parameters())}
    boxes: dict[int, Box] = {}
    edges: Edges = set()
    passing = set()  # boxes without weights of their own
    for pair in graph.edge_list:
        for node in pair:
            boxes.setdefault(id(node), _box(node, titles))
            if getattr(node, "compute_unit_id", None) not in kept and _passes(node):
                passing.add(id(node))
        edges.add((id(pair[0]), id(pair[1])))
    for key in passing:
        edges = _without(key, boxes, edges)
    return boxes, edges


def _passes(node: Any) -> bool:
    return type(node).__name__ != "TensorNode"


def _box(node: Any, titles: dict[int, str]) -> Box:
    if not _passes(node):
        is_input = "output" not in node.name
        word = "image" if is_input else "logits"
        return Box(word, "", (1, 3, SIDE, SIDE) if is_input else tuple(node.tensor_shape))
    shapes = [tuple(shape) for shape in node.output_shape]
    pictures = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 4 else ()
    title = titles.get(node.compute_unit_id, node.name)
    return Box(title, node.name, pictures, len(shapes))


def _without(key: int, boxes: dict[int, Box], edges: Edges) -> Edges:
    """The edges with ``key`` passed over, where that multiplies none; else as they are."""
    before = {start for start, end in edges if end == key}
    after = {end for start, end in edges if start == key}
    if min(len(before), len(after)) > 1 or not before or not after:
        return edges
    del boxes[key]
    joined = {(start, end) for start in before for end in after}
    return {edge for edge in edges if key not in edge} | joined


def place_boxes(boxes: dict[int, Box], edges: Edges) -> None:
    """Give each box its column (the longest way to it), row (its resolution) and slot in both."""
    for _ in boxes:
        moved = False
        for start, end in edges:
            if boxes[end].column <= boxes[start].column:
                boxes[end].column = boxes[start].column + 1
                moved = True
        if not moved:
            break
    taken: dict[tuple[int, int], int] = {}
    for box in boxes.values():
        box.row = round(log2(SIDE / max(1, box.shape[-1]))) if box.shape else 0
        place = box.column, box.row
        box.slot = taken.get(place, 0)
        taken[place] = box.slot + 1


def draw_boxes(name: str, boxes: dict[int, Box], edges: Edges) -> str:
    """SVG of boxes that have their places."""
    rows = sorted({box.row for box in boxes.values()})
    tops, top = {}, MARGIN
    for row in rows:
        tops[row] = top
        slots = 1 + max(box.slot for box in boxes.values() if box.row == row)
        top += slots * (HEIGHT + GAP) + GAP

    def corner(box: Box) -> tuple[int, int]:
        return MARGIN + box.column * STEP, tops[box.row] + box.slot * (HEIGHT + GAP)

    width = 2 * MARGIN + max(box.column for box in boxes.values()) * STEP + WIDTH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" role="img" '
        f'viewBox="0 0 {width} {top}" aria-label="data flow of {escape(name)}" '
        'font-family="sans-serif">',
        '<defs><marker id="arrow" markerWidth="7" markerHeight="6" refX="6" refY="3" orient="auto">'
        '<path d="M0,0 L7,3 L0,6 z" fill="currentColor"/></marker></defs>',
    ]
    for start, end in sorted(
        edges, key=lambda edge: corner(boxes[edge[0]]) + corner(boxes[edge[1]])
    ):
        parts.append(_arrow(corner(boxes[start]), corner(boxes[end])))
    parts += [_drawn(box, *corner(box)) for box in sorted(boxes.values(), key=corner)]
    return "\n".join([*parts, "</svg>"])


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y = start[0] + WIDTH, start[1] + HEIGHT // 2
    to_x, to_y = end[0], end[1] + HEIGHT // 2
    if to_x - x > STEP and y == to_y:  # a skip passes below the boxes of its row
        bend = y + HEIGHT // 2 + GAP - 2
        way = f"M{x},{y} C{x + 30},{bend} {x + 30},{bend} {x + 60},{bend} L{to_x - 60},{bend} "
        way += f"C{to_x - 30},{bend} {to_x - 30},{to_y} {to_x},{to_y}"
    else:
        middle = (to_x - x) // 2
        way = f"M{x},{y} C{x + middle},{y} {to_x - middle},{to_y} {to_x},{to_y}"
    return f'<path d="{way}" fill="none" stroke="currentColor" opacity=".55" marker-end="url(#arrow)"/>'


def _drawn(box: Box, x: int, y: int) -> str:
    title = escape(box.title if len(box.title) < 22 else f"...{box.title[-19:]}")
    below = escape(f"{box.kind[:14]} {box.shape_text}".strip())
    middle = x + WIDTH // 2
    return (
        f"<g><title>{escape(box.title)}: {escape(box.kind)} {box.shape_text}</title>"
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" stroke="currentColor" '
        'fill="var(--color-background-secondary, #f4f4f4)"/>'
        f'<text x="{middle}" y="{y + 16}" text-anchor="middle" font-size="11" font-weight="600" '
        f'fill="currentColor">{title}</text>'
        f'<text x="{middle}" y="{y + 31}" text-anchor="middle" font-size="9" '
        f'fill="currentColor">{below}</text></g>'
    )
