"""Where the boxes and lines of a part's picture lie: rows by generation, long parts cut into columns like a newspaper's text.

An operation stands below all that it reads. A line that passes a few rows gets a slot in each of them; a longer one (the residual
stream) runs beside the boxes. Only whole and half pixels come out, so the picture is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

ROW_GAP, GAP, SLOT_WIDTH, LANE, COLUMN_GAP, MARGIN = 50, 26, 16, 20, 34, 18
ROWS_PER_COLUMN = 13
LONG = 4  # rows; a longer line runs beside the boxes
BELOW, ABOVE = 14, 28  # how far from a box a line runs that goes to a lane or comes from one: outside of frames
SWEEPS, STRAIGHTENINGS = 8, 40


@dataclass(frozen=True)
class Box:
    """What is to be placed: boxes of one `group` that stand together are framed."""

    key: str
    width: int
    height: int
    group: str = ""
    floats: bool = False  # stands right above its first reader rather than on top


@dataclass(frozen=True)
class Placed:
    """A box's top left corner."""

    box: Box
    x: float
    y: float

    @property
    def middle(self) -> float:
        return self.x + self.box.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.box.height


@dataclass(frozen=True)
class Line:
    """From one box to another, through points; `curved` ones turn smoothly, the others in right angles."""

    start: str
    end: str
    points: tuple[tuple[float, float], ...]
    curved: bool


@dataclass(frozen=True)
class Frame:
    """Around the boxes of a group."""

    group: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """The whole picture, from (0, 0)."""

    width: float
    height: float
    boxes: tuple[Placed, ...]
    lines: tuple[Line, ...]
    frames: tuple[Frame, ...]


def layout(boxes: Sequence[Box], edges: Sequence[tuple[str, str]]) -> Layout:
    """Place `boxes` in order of execution; `edges` are pairs of keys."""
    by_key = {box.key: box for box in boxes}
    edges = list(dict.fromkeys(edges))
    rows = _rows(by_key, edges)
    columns = _columns(rows, edges)
    return _Picture(by_key, edges, rows, columns).result()


def _rows(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Row of each box: its generation; a floating box stands right above its first reader."""
    graph = nx.DiGraph()
    graph.add_nodes_from(boxes)
    graph.add_edges_from(edges)
    found = {key: row for row, keys in enumerate(nx.topological_generations(graph)) for key in keys}
    for key, box in boxes.items():
        readers = [found[reader] for reader in graph.successors(key)]
        if box.floats and readers:
            found[key] = min(readers) - 1
    return found


def _columns(rows: Mapping[str, int], edges: Sequence[tuple[str, str]]) -> list[range]:
    """Rows of each column: cut about evenly, where the fewest values cross."""
    count = max(rows.values(), default=0) + 1
    columns = -(-count // ROWS_PER_COLUMN)
    starts = [0]
    for index in range(1, columns):
        ideal = count * index / columns
        near = range(max(starts[-1] + 1, round(ideal) - 3), min(count - 1, round(ideal) + 3) + 1)
        starts.append(min(near, key=lambda cut: (len(_crossing(cut, rows, edges)), abs(cut - ideal))))
    return [range(start, end) for start, end in pairwise([*starts, count])]


def _crossing(cut: int, rows: Mapping[str, int], edges: Sequence[tuple[str, str]]) -> list[str]:
    """Boxes above row `cut` that are read at it or below."""
    return list(dict.fromkeys(start for start, end in edges if rows[start] < cut <= rows[end]))


@dataclass
class _Column:
    """Rows of one column. `slots` are what takes room in a row: boxes, and passing lines as invisible boxes."""

    rows: list[list[str]]
    widths: dict[str, int] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)  # between slots of rows that follow each other
    x: dict[str, float] = field(default_factory=dict)  # middle of each slot
    lanes: list[str] = field(default_factory=list)


class _Picture:
    """Builds a `Layout`."""

    def __init__(
        self,
        boxes: Mapping[str, Box],
        edges: Sequence[tuple[str, str]],
        rows: Mapping[str, int],
        columns: Sequence[range],
    ):
        self._boxes, self._rows, self._columns = boxes, rows, columns
        self._column_of = {row: index for index, column in enumerate(columns) for row in column}
        self._routes: list[tuple[str, str, list[str], bool]] = []  # start, end, slots on the way, whether beside
        self._made = [self._fill(index) for index in range(len(columns))]
        for start, end in edges:
            self._route(start, end)
        for column in self._made:
            _order(column)
            _spread(column)

    def _fill(self, index: int) -> _Column:
        rows: list[list[str]] = [[] for _ in self._columns[index]]
        for key, row in self._rows.items():
            if self._column_of[row] == index:
                rows[row - self._columns[index].start].append(key)
        widths = {key: self._boxes[key].width for row in rows for key in row}
        return _Column(rows, widths)

    def _route(self, start: str, end: str) -> None:
        """Slots for the line in every row that it passes, or a lane beside the boxes."""
        first, last = self._rows[start], self._rows[end]
        beside = last - first > LONG or self._column_of[first] != self._column_of[last]
        stops = [start]
        if not beside:
            column = self._made[self._column_of[first]]
            for row in range(first + 1, last):
                slot = f"{start}\n{end}\n{row}"  # a newline: no box has such a key
                column.rows[row - self._columns[self._column_of[first]].start].append(slot)
                column.widths[slot] = SLOT_WIDTH
                stops.append(slot)
            column.links += pairwise([*stops, end])
        else:
            lanes = self._made[self._column_of[last]].lanes
            if start not in lanes:
                lanes.append(start)
        self._routes.append((start, end, stops[1:], beside))

    def result(self) -> Layout:
        """Pixels."""
        placed: dict[str, Placed] = {}
        slots: dict[str, tuple[float, float, float]] = {}  # middle, top, bottom
        lanes: dict[tuple[int, str], float] = {}
        tops: dict[int, float] = {}
        lefts: list[float] = []
        left, height = float(MARGIN), 0.0
        for index, column in enumerate(self._made):
            lefts.append(left)
            for n, key in enumerate(column.lanes):
                lanes[index, key] = left + LANE * n + 0.5
            left += LANE * len(column.lanes)
            column.x = {key: round(2 * x) / 2 for key, x in column.x.items()}
            shift = left - min((column.x[k] - column.widths[k] / 2 for row in column.rows for k in row), default=0)
            y = float(MARGIN + ABOVE)
            for n, row in enumerate(column.rows):
                tops[self._columns[index].start + n] = y
                tall = max((self._boxes[k].height for k in row if k in self._boxes), default=0)
                for key in row:
                    middle = column.x[key] + shift
                    slots[key] = (middle, y, y + tall)
                    if key in self._boxes:
                        box = self._boxes[key]
                        placed[key] = Placed(box, middle - box.width / 2, y + (tall - box.height) / 2)
                y += tall + ROW_GAP
            height = max(height, y)
            left = max((p.x + p.box.width for p in placed.values()), default=left) + COLUMN_GAP
        width = left - COLUMN_GAP + MARGIN
        lines = tuple(self._line(route, placed, slots, lanes, tops, lefts) for route in self._routes)
        frames = tuple(self._frames(placed))
        return Layout(width, height, tuple(placed[key] for key in self._boxes), lines, frames)

    def _line(
        self,
        route: tuple[str, str, list[str], bool],
        placed: Mapping[str, Placed],
        slots: Mapping[str, tuple[float, float, float]],
        lanes: Mapping[tuple[int, str], float],
        tops: Mapping[int, float],
        lefts: Sequence[float],
    ) -> Line:
        start, end, stops, beside = route
        one, two = placed[start], placed[end]
        if not beside:
            through = [
                p for slot in stops for p in ((slots[slot][0], slots[slot][1]), (slots[slot][0], slots[slot][2]))
            ]
            return Line(start, end, ((one.middle, one.bottom), *through, (two.middle, two.y)), True)
        # Out below the box, along the lane of the reader's column, and in above the reader.
        first, last = self._column_of[self._rows[start]], self._column_of[self._rows[end]]
        low, high, lane = one.bottom + BELOW, tops[self._rows[end]] - ABOVE, lanes[last, start]
        points = [(one.middle, one.bottom), (one.middle, low)]
        if last - first > 1:  # over the columns between
            near = lanes.get((first + 1, start), lefts[first + 1] - 4)
            points += [(near, low), (near, MARGIN / 2), (lane, MARGIN / 2)]
        else:
            points += [(lane, low)]
        points += [(lane, high), (two.middle, high), (two.middle, two.y)]
        return Line(start, end, tuple(points), False)

    def _frames(self, placed: Mapping[str, Placed]) -> list[Frame]:
        """One frame for the boxes of a group that share a column, where no other box comes between."""
        found: list[list[Placed]] = []
        for key, box in self._boxes.items():
            here = placed[key]
            if not box.group:
                continue
            column = self._column_of[self._rows[key]]
            for members in found:
                other = members[0].box
                if other.group == box.group and self._column_of[self._rows[other.key]] == column:
                    members.append(here)
                    break
            else:
                found.append([here])
        frames = []
        for members in found:
            x, y = min(p.x for p in members) - 9, min(p.y for p in members) - 20
            right, bottom = max(p.x + p.box.width for p in members) + 9, max(p.bottom for p in members) + 9
            frames.append(Frame(members[0].box.group, x, y, right - x, bottom - y))
        return frames


def _order(column: _Column) -> None:
    """Order each row by the mean place of what it is linked to in the row above, then below: fewer crossings."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for start, end in column.links:
        above.setdefault(end, []).append(start)
        below.setdefault(start, []).append(end)
    for sweep in range(SWEEPS):
        linked, rows = (above, column.rows[1:]) if sweep % 2 == 0 else (below, column.rows[-2::-1])
        for row in rows:
            place = {key: n / max(1, len(r) - 1) for r in column.rows for n, key in enumerate(r)}
            row.sort(key=lambda key: (_mean([place[k] for k in linked.get(key, ())], place[key]), place[key]))


def _spread(column: _Column) -> None:
    """Middles: as near to what each slot is linked to as the order and the widths of its row allow.

    At last each row lies under the one above, so that chains are straight.
    """
    above: dict[str, list[str]] = {}
    linked: dict[str, list[str]] = {}
    for start, end in column.links:
        above.setdefault(end, []).append(start)
        linked.setdefault(start, []).append(end)
        linked.setdefault(end, []).append(start)
    for row in column.rows:
        _place(row, column, [0.0] * len(row))
    for sweep in range(STRAIGHTENINGS):
        for row in column.rows if sweep % 2 == 0 else column.rows[::-1]:
            _place(row, column, [_mean([column.x[k] for k in linked.get(key, ())], column.x[key]) for key in row])
    for row in column.rows:
        _place(row, column, [_mean([column.x[k] for k in above.get(key, ())], column.x[key]) for key in row])


def _place(row: list[str], column: _Column, wanted: list[float]) -> None:
    """Put the slots of a row near where they want to be, in order and apart: overlapping neighbours move as one block."""
    blocks: list[tuple[list[str], list[float], list[float]]] = []  # keys, offsets, wishes for the block's start
    for key, wish in zip(row, wanted, strict=True):
        blocks.append(([key], [0.0], [wish]))
        while len(blocks) > 1 and _start(blocks[-2]) + _reach(blocks[-2], blocks[-1], column) > _start(blocks[-1]):
            keys, offsets, wishes = blocks.pop()
            reach = _reach(blocks[-1], (keys, offsets, wishes), column)
            blocks[-1][0].extend(keys)
            blocks[-1][1].extend(offset + reach for offset in offsets)
            blocks[-1][2].extend(wish - reach for wish in wishes)
    for block in blocks:
        start = _start(block)
        for key, offset in zip(block[0], block[1], strict=True):
            column.x[key] = start + offset


def _start(block: tuple[list[str], list[float], list[float]]) -> float:
    return _mean(block[2], 0.0)


def _reach(
    one: tuple[list[str], list[float], list[float]], two: tuple[list[str], list[float], list[float]], column: _Column
) -> float:
    """From the first middle of a block to that of the next, at least."""
    return one[1][-1] + (column.widths[one[0][-1]] + column.widths[two[0][0]]) / 2 + GAP


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
