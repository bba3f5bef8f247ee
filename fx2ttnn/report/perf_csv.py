"""The predicted device operations of a decode step in the columns of tt-perf-report's CSV, so that a first run on a card is a diff.

Columns and units are those of github.com/tenstorrent/tt-perf-report 1.4.1 (`--csv`): microseconds, GB/s, TFLOP/s, percent. It takes rates
from a matmul's logical types and whole tiles; so do we. Shares are of the chip's figures in fx2ttnn/targets/. What is not known before a
run stays empty. Behind its columns stand ours; `Published` says whether somebody has published a time of such an operation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from fx2ttnn import targets
from fx2ttnn.check.device_ops import is_device_op
from fx2ttnn.cost.calls import Load
from fx2ttnn.report.data import Report
from fx2ttnn.report.device_ops import StepOp, StepOps
from fx2ttnn.report.text import plural
from fx2ttnn.targets import Target
from fx2ttnn.tiles import TILE, tiles

THEIRS = (
    "ID",
    "Total %",
    "Bound",
    "OP Code",
    "Device",
    "Device Time",
    "Op-to-Op Gap",
    "Cores",
    "DRAM",
    "DRAM %",
    "FLOPs",
    "FLOPs %",
    "Math Fidelity",
    "Output Datatype",
    "Input 0 Datatype",
    "Input 1 Datatype",
    "DRAM Sharded",
    "Input 0 Memory",
    "Inner Dim Block Size",
    "Output Subblock H",
    "Output Subblock W",
    "Global Call Count",
    "Sub Device ID",
    "Available Cores",
    "Op Category",
    "Bound Analysis",
)
OURS = ("Predicted", "Part", "Module", "Published")

_BITS = {
    "float32": 32,
    "bfloat16": 16,
    "bfloat8_b": 8,
    "bfloat4_b": 4,
}  # as tt-perf-report counts them, without exponents
_SHORT = {"float32": "FP32", "bfloat16": "BF16", "bfloat8_b": "BFP8", "bfloat4_b": "BFP4"}
_BUSY = 65  # percent of a resource from which tt-perf-report says that it bounds an operation
_SHARDED = "MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig"


def perf_csv(report: Report, load: Load) -> str:
    """The text of the file, one line for each device operation of a step and of sampling."""
    target = targets.load(report.graph["target"])
    ops = [*StepOps(report, load).of_step()]
    total = sum(op.us for *_, op in ops)
    what = f"by fx2ttnn, {plural(load.users, 'user')}, {load.context} tokens each"
    file = io.StringIO()
    writer = csv.DictWriter(file, (*THEIRS, *OURS), restval="", lineterminator="\n")
    writer.writeheader()
    for line, (part, number, op) in enumerate(ops, 1):
        writer.writerow(
            {
                "ID": line,
                "Total %": _rounded(100 * op.us / total),
                "OP Code": _code(op),
                "Device Time": _rounded(op.kernel_us),
                "Op-to-Op Gap": _rounded(op.gap),
                **_tensors(op),
                **_matmul(op, target),
                "Predicted": what,
                "Part": part["name"] if number is None else f"layer {number}",
                "Module": op.node["module"],
                "Published": op.measured,
            }
        )
    return file.getvalue()


def _code(op: StepOp) -> str:
    name = op.name if is_device_op(op.name) else f"{op.name}DeviceOperation"
    return f"{name} {' x '.join(map(str, _padded(op)))}" if _is_matmul(op) else name


def _is_matmul(op: StepOp) -> bool:
    """A call that runs one matmul and nothing else: its tensors are the matmul's."""
    return op.name == "Matmul" and len(op.call["device_ops"]) == 1 and len(op.call["inputs"]) > 1


def _padded(op: StepOp) -> tuple[int, ...]:
    """Rows, columns in and out of a matmul, in whole tiles."""
    rows, *columns = (op.call["inputs"][0]["shape"][-2], *op.shape[1:])
    return tuple(tiles(n) * TILE for n in (rows, *columns))


def _tensors(op: StepOp) -> dict[str, Any]:
    """Types and place of what a call reads first and gives, where it runs one operation, whose these are."""
    call = op.call
    if len(call["device_ops"]) > 1 or not call["inputs"] or not call["outputs"]:
        return {}
    first, result = call["inputs"][0], call["outputs"][0]
    return {
        "Output Datatype": result["dtype"].upper(),
        "Input 0 Datatype": first["dtype"].upper(),
        "Input 0 Memory": _memory(first),
    }


def _memory(tensor: Mapping[str, Any]) -> str:
    """`L1, width sharded 32x64 on 20 cores` as `L1_WIDTH_SHARDED`: tt-perf-report has the device's number before it."""
    buffer, _, kind = tensor["memory"].partition(", ")
    words = kind.split()[: 1 + ("sharded" in kind)]
    return "_".join((buffer, *words)).upper()


def _matmul(op: StepOp, target: Target) -> dict[str, Any]:
    """What tt-perf-report says of matmuls alone."""
    if not _is_matmul(op):
        return {"DRAM Sharded": False}
    call, program = op.call, op.call["program"]
    first, weight, result = call["inputs"][0], call["inputs"][1], call["outputs"][0]
    rows, deep, wide = _padded(op)
    batch = op.shape[0] // first["shape"][-2]  # matmuls of the same shape in one operation
    sizes = ((first, rows * deep), (weight, deep * wide), (result, rows * wide))
    read = batch * sum(n * _BITS.get(t["dtype"], 32) / 8 for t, n in sizes if t["memory"].startswith("DRAM"))
    gigabytes, tera = read / op.kernel_us / 1e3, 2 * batch * rows * deep * wide / op.kernel_us / 1e6
    sharded = program.get("config") == _SHARDED
    cores = target.dram_banks if sharded else None
    of_dram = 100 * gigabytes * 1e9 / target.dram_bandwidth if read else None
    of_flops = 100 * tera * 1e12 / _peak(op, target, cores) if cores else None
    fidelity = f"{call['fidelity']} {' => '.join((' x '.join(map(_short, (first, weight))), _short(result)))}"
    return {
        "Bound": _bound(of_dram, of_flops),
        "Cores": cores,
        "DRAM": _rounded(gigabytes) if read else None,
        "DRAM %": _rounded(of_dram),
        "FLOPs": _rounded(tera),
        "FLOPs %": _rounded(of_flops),
        "Math Fidelity": fidelity.strip(),
        "Input 1 Datatype": weight["dtype"].upper(),
        "DRAM Sharded": sharded,
        "Inner Dim Block Size": program.get("in0_block_w"),
        "Output Subblock H": program.get("out_subblock_h"),
        "Output Subblock W": program.get("out_subblock_w"),
    }


def _peak(op: StepOp, target: Target, cores: int) -> float:
    """FLOP/s of so many cores at the call's fidelity."""
    rate: float = getattr(target, f"flops_{(op.call['fidelity'] or 'HiFi2').lower()}")
    return rate * cores / (target.grid[0] * target.grid[1])


def _bound(of_dram: float | None, of_flops: float | None) -> str:
    """tt-perf-report's word, where it would know both shares."""
    if of_dram is None or of_flops is None:
        return ""
    busy = [name for name, share in (("DRAM", of_dram), ("FLOP", of_flops)) if share >= _BUSY]
    return "BOTH" if len(busy) > 1 else busy[0] if busy else "SLOW"


def _short(tensor: Mapping[str, Any]) -> str:
    return _SHORT.get(tensor["dtype"], tensor["dtype"].upper())


def _rounded(value: float | None) -> float | None:
    """Four digits behind the point: no prediction is nearer."""
    return None if value is None else round(value, 4)
