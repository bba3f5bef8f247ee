"""The picture of a part of the model: boxes with their text, lines and frames, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fx2ttnn.report.layout import Box, Line, layout
from fx2ttnn.report.text import cut, seconds, shape

OP_WIDTH, LINE_HEIGHT, PAD, INPUT_WIDTH = 272, 16, 8, 214
CORNER = 7


def picture(part: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Everything the template draws of a part of graph.json; `prefix` makes the ids of its boxes the page's own."""
    nodes = {node["id"]: node for node in part["nodes"]}
    made_by = {value["value"]: node["id"] for node in part["nodes"] for value in node["outputs"]}
    boxes, edges, outside = [], [], {}
    readers: dict[str, set[str]] = {}  # of a value from outside: the groups that read it
    for node in part["nodes"]:
        boxes.append(Box(node["id"], OP_WIDTH, 2 * PAD + LINE_HEIGHT * len(_lines(node, part)), _group(node, part)))
        for value in node["inputs"]:
            if value["value"] not in made_by:
                outside[_input_key(value)] = value
                readers.setdefault(_input_key(value), set()).add(_group(node, part))
            edges.append((made_by.get(value["value"]) or _input_key(value), node["id"]))
    height = 2 * PAD + 2 * LINE_HEIGHT
    inputs = [
        Box(key, INPUT_WIDTH, height, min(groups) if len(groups) == 1 else "", floats=True)
        for key, groups in readers.items()
    ]
    found = layout([*inputs, *boxes], edges)
    placed = []
    for item in found.boxes:
        key = item.box.key
        node = nodes.get(key)
        placed.append(
            {
                "id": f"{prefix}-{list(nodes).index(key)}" if node else "",
                "key": key,
                "x": _px(item.x),
                "y": _px(item.y),
                "width": item.box.width,
                "height": item.box.height,
                "kind": ("unsupported" if node["problem"] else node["kind"]) if node else "input",
                "lines": _lines(node, part) if node else _input_lines(outside[key]),
                "time": seconds(node["seconds"]) if node and node["seconds"] else "",
                "label": f"{node['op']} in {node['module'] or 'the model'}" if node else "",
            }
        )
    return {
        "width": _px(found.width),
        "height": _px(found.height),
        "boxes": placed,
        "lines": [{"start": line.start, "end": line.end, "path": _path(line)} for line in found.lines],
        "frames": [
            {
                "name": f.group.removeprefix(part["layer"] or "").strip("."),
                "x": _px(f.x),
                "y": _px(f.y),
                "width": _px(f.width),
                "height": _px(f.height),
            }
            for f in found.frames
        ],
    }


def _input_key(value: Mapping[str, Any]) -> str:
    return f"\n{value['value']}"  # no operation's name begins with a newline


def _lines(node: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    """Operation, and its module where the frame does not say it; its first output on one chip; its weights."""
    module, frame = node["module"], _group(node, part)
    inside = module.removeprefix(frame).strip(".") if frame else ""
    lines = [f"{node['op']} · {inside}" if inside else node["op"], _where(node["outputs"][0])]
    if node["parameters"]:
        weights = node["parameters"]
        lines.append(f"weight {_where(weights[0])}" if len(weights) == 1 else f"{len(weights)} weights, side by side")
    return [cut(line, 36 if n else 25) for n, line in enumerate(lines)]


def _input_lines(value: Mapping[str, Any]) -> list[str]:
    return [cut(value["value"], 24), cut(_where(value), 27)]


def _where(value: Mapping[str, Any]) -> str:
    """`[1, 1, 32, 1280] (R, S3)`: one chip's part, and how it lies on the mesh."""
    return f"{shape(value['local'])} {value['lies']}" if "local" in value else shape(value["shape"])


def _group(node: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """The module that frames an operation: the layer's child that it is in, or outside of layers the module itself."""
    module, layer = node["module"], part["layer"]
    if not layer:
        return module
    inside = module.removeprefix(layer).strip(".")
    return f"{layer}.{inside.split('.')[0]}" if inside else ""


def _path(line: Line) -> str:
    (x, y), *rest = line.points
    if line.curved:
        steps = []
        for (x1, y1), (x2, y2) in zip(line.points, rest, strict=False):
            middle = (y1 + y2) / 2
            bent = f"C{_px(x1)} {_px(middle)} {_px(x2)} {_px(middle)} {_px(x2)} {_px(y2)}"
            steps.append(f"L{_px(x2)} {_px(y2)}" if x1 == x2 else bent)
        return f"M{_px(x)} {_px(y)}" + "".join(steps)
    return f"M{_px(x)} {_px(y)}" + "".join(_corners(line.points))


def _corners(points: tuple[tuple[float, float], ...]) -> list[str]:
    """Right angles with round corners."""
    steps = []
    for (x0, y0), (x1, y1), (x2, y2) in zip(points, points[1:], points[2:], strict=False):
        before, after = _towards(x1, y1, x0, y0), _towards(x1, y1, x2, y2)
        steps.append(f"L{_px(before[0])} {_px(before[1])}Q{_px(x1)} {_px(y1)} {_px(after[0])} {_px(after[1])}")
    return [*steps, f"L{_px(points[-1][0])} {_px(points[-1][1])}"]


def _towards(x: float, y: float, to_x: float, to_y: float) -> tuple[float, float]:
    """A corner's radius away from (x, y), at most half way."""
    length = abs(to_x - x) + abs(to_y - y)
    part = min(CORNER, length / 2) / length if length else 0.0
    return x + (to_x - x) * part, y + (to_y - y) * part


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
