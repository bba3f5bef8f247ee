"""How far the formulas are from what was published: `published.toml` computed with a chip's figures, beside `measurements.csv`."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

from fx2ttnn import targets
from fx2ttnn.cost.kernels import Kernels, Ring, ring_of
from fx2ttnn.precision import BYTES

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Comparison:
    """Microseconds of one operation or step. `held_out`: no figure was chosen with it in view; `rows` of measurements.csv."""

    group: str
    name: str
    published: float
    predicted: float
    rows: tuple[int, ...]
    held_out: bool = False

    @property
    def error(self) -> float:
        """Relative to what was published: negative where the prediction is too fast."""
        return self.predicted / self.published - 1


@cache
def measurements() -> Mapping[int, Mapping[str, str]]:
    """Rows of measurements.csv by their number."""
    with (_HERE / "measurements.csv").open(newline="") as file:
        return {int(row["id"]): row for row in csv.DictReader(file)}


@cache
def _kernels(target: str) -> Kernels:
    return Kernels(targets.load(target))


def comparisons() -> tuple[Comparison, ...]:
    """Operations and totals of hand-written models, longer texts, tt_transformers, collectives out of the box, Blackhole's attention."""
    data = tomllib.loads((_HERE / "published.toml").read_text())
    layers = {layer["model"]: layer for layer in data["layer"]}
    found: list[Comparison] = []
    for layer in data["layer"]:
        found += _layer(layer)
    for longer in data["longer"]:
        found.append(_longer(layers[longer["model"]], longer))
    for model in data["tt_transformers"]["models"]:
        found.append(_tt_transformers(data["tt_transformers"], model))
    return (*found, *_collectives(), *_attention_of_blackhole())


def _layer(layer: Mapping[str, Any]) -> Iterator[Comparison]:
    us = [_us(op, layer) for op in layer["ops"]]
    for op, predicted in zip(layer["ops"], us, strict=True):
        if "us" in op:
            yield Comparison(f"{layer['model']}, an operation", op["op"], op["us"], predicted, tuple(op["rows"]))
    total = sum(us) * layer["layers"] + layer["tail"]
    rows = tuple(layer["total"]["rows"])
    yield Comparison("a step, hand-written", layer["model"], layer["total"]["ms"] * 1e3, total, rows)


def _us(op: Mapping[str, Any], layer: Mapping[str, Any]) -> float:
    """Predicted time of an operation in a layer, with the gaps before it."""
    kernels = _kernels(layer["target"])
    costs, ring = kernels.costs, ring_of(kernels.target, op.get("axis", 0), op.get("links"))
    match op["kernel"]:
        case "given":
            us = op["us_each"]
        case "small":
            us = kernels.small(op["op"]).us
        case "statistics_norm":
            us = kernels.statistics_norm(ring).us
        case "persistent":
            extra = getattr(costs.persistent, op["extra"]) if "extra" in op else 0.0
            us = kernels.persistent(op["kind"], op["bytes"], ring, extra).us
        case "ring_matmul":
            us = kernels.ring_matmul(op["k"], op["n"], op["fidelity"], op["cores"]).us
        case "decode_attention":
            us = kernels.decode_attention(
                op["users"], op["context"], op["kv_heads"], op["width"], BYTES["bfloat8_b"]
            ).us
        case other:
            raise ValueError(f"published.toml names a formula {other!r} that is none")
    return us * op.get("times", 1) + op.get("plus", 0.0) + costs.gap * op.get("gaps", 1)


def _longer(layer: Mapping[str, Any], longer: Mapping[str, Any]) -> Comparison:
    """The published step at 128 tokens, and what the formula of attention adds for more."""
    attention = next(op for op in layer["ops"] if op["kernel"] == "decode_attention")
    more = _us({**attention, "users": longer["users"], "context": longer["context"]}, layer) - _us(
        {**attention, "users": longer["users"]}, layer
    )
    predicted = layer["total"]["ms"] * 1e3 + layer["layers"] * more
    name = f"{layer['model']}, {longer['users'] * 4 if longer['users'] > 1 else 1} users, {longer['context']} tokens"
    row = longer["row"]
    return Comparison(
        "a longer text", name, float(measurements()[row]["us"]), predicted, (row,), longer.get("held_out", False)
    )


def _tt_transformers(general: Mapping[str, Any], model: Mapping[str, Any]) -> Comparison:
    target = _kernels(model["target"]).target
    costs, chips = target.costs, target.chips
    streamed = costs.sharded_matmul.model_copy(update={"stream": general["stream"]})
    kernels = Kernels(replace(target, costs=costs.model_copy(update={"sharded_matmul": streamed})))
    hidden, intermediate, cores = model["hidden"], model["intermediate"], general["cores"]

    def matmul(role: str, k: int, n: int) -> float:
        return kernels.sharded_matmul(k, n, BYTES[general["weights"][role]], general["fidelity"], cores).us

    layer = matmul("qkv", hidden, model["qkv"] // chips) + matmul("output", model["attention"] // chips, hidden)
    layer += 2 * matmul("up", hidden, intermediate // chips) + matmul("down", intermediate // chips, hidden)
    layer += general["small"] + (general["norms_of_heads"] if model.get("norms_of_heads") else 0.0)
    if chips > 1:
        ring = Ring(chips, model["ring"], model["links"], target.channel_bandwidth)
        size = 32 * hidden * BYTES["bfloat8_b"]
        gather, scatter = (kernels.generic(kind, size, ring).us for kind in ("all_gather", "reduce_scatter"))
        layer += general["collectives"] * (3 * gather + scatter)
    total = layer * model["layers"] + matmul("head", hidden, model["vocabulary"] // chips) + costs.host
    row = model["row"]
    name = f"{model['model']} on {model['target']}"
    return Comparison("a step of tt_transformers", name, float(measurements()[row]["us"]), total, (row,))


_KINDS = {"ttnn.all_gather": "all_gather", "ttnn.reduce_scatter": "reduce_scatter"}


def _collectives() -> Iterator[Comparison]:
    """Each published collective out of the box whose bytes, chips and links its row tells."""
    for number, row in measurements().items():
        kind = next((k for name, k in _KINDS.items() if name in row["op"]), None)
        size = _bytes(row["shape"])
        if row["family"] != "ccl.generic" or kind is None or size is None or not row["n_chips"] or not row["links"]:
            continue
        kernels = _kernels("galaxy" if row["chip"] == "WH" else "galaxy_blackhole")
        links, channel = int(row["links"]), kernels.target.channel_bandwidth
        ring = Ring(int(row["n_chips"]), row["topology"] == "ring", links, channel)
        name = f"{kind}, {row['topology']} of {ring.chips}, {size / 1e3:.0f} KB"
        predicted = kernels.generic(kind, size, ring).us
        group = f"collectives out of the box, {'Wormhole' if row['chip'] == 'WH' else 'Blackhole'}"
        yield Comparison(group, name, float(row["us"]), predicted, (number,))


def _bytes(shape: str) -> float | None:
    """Of "16384 B whole tensor"."""
    number, _, rest = shape.partition(" ")
    return float(number) if rest == "B whole tensor" else None


def _attention_of_blackhole() -> Iterator[Comparison]:
    kernels = _kernels("p150")
    for number, row in measurements().items():
        if row["chip"] == "BH" and row["op"].startswith("sdpa_decode non-paged b8 32q/8kv d128"):
            context = int(row["shape"].removeprefix("cache "))
            kind = {"bf16": "bfloat16", "bfp8": "bfloat8_b", "bfp4": "bfloat4_b"}[row["dtype"]]
            predicted = kernels.decode_attention(8, context, 8, 256, BYTES[kind]).us
            name = f"8 users, {context} tokens, {kind}"
            yield Comparison("attention of a token, Blackhole", name, float(row["us"]), predicted, (number,), True)


def grouped() -> Mapping[tuple[str, bool], list[Comparison]]:
    """All comparisons by their group and whether they were held out."""
    found: dict[tuple[str, bool], list[Comparison]] = {}
    for one in comparisons():
        found.setdefault((one.group, one.held_out), []).append(one)
    return found


def spread(found: list[Comparison]) -> tuple[float, float]:
    """Mean and root mean square of relative errors."""
    errors = [one.error for one in found]
    return sum(errors) / len(errors), sqrt(sum(e * e for e in errors) / len(errors))
