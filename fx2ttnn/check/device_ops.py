"""Which entries of a trace are device operations, and which of those move data between chips."""

from __future__ import annotations

from collections.abc import Sequence

# ttnn's graph capture names a device operation after its class: those of ttnn 0.81.1 end like this, or are one of the others.
ENDINGS = ("Operation", "Op")
OTHERS = {
    "Fold",
    "Matmul_RS",
    "MinimalMatmulStridedReduceScatterAsync",
    "Pool2D",
    "RunningStatistics",
    "StridedAllGatherAsync",
    "StridedAllGatherMinimalMatmulAsync",
}

# Parts of class names, from the device operations that ttnn 0.81.1 has; the async, direct and fused variants share them.
# DitFusedDistributedRmsnorm is none of them: it sends only along an axis that it is given, and no row gives it one.
CROSSES_CHIPS = (
    "AllBroadcast",
    "AllGather",
    "AllReduce",
    "AllToAll",
    "Matmul_RS",
    "NeighborPad",
    "NpHalo",
    "PointToPoint",
    "RecvAsync",
    "RecvDirect",
    "ReduceToRoot",
    "ReduceScatter",
    "RingDistributedSdpa",
    "RingJointSDPA",
    "SelectiveReduceCombine",
    "SendAsync",
    "SendDirect",
)
STAYS_ON_CHIP = ("PreAllGather", "PostAllGather")  # the halves of a norm before and after its all_gather


def is_device_op(name: str) -> bool:
    """Whether an entry of a trace is a device operation; the others are functions and tensors."""
    return name.endswith(ENDINGS) or name in OTHERS


def is_collective(device_op: str) -> bool:
    """Whether a device operation moves data between chips."""
    return any(part in device_op for part in CROSSES_CHIPS) and not any(part in device_op for part in STAYS_ON_CHIP)


def count_collectives(device_ops: Sequence[str]) -> int:
    """How many of the device operations move data between chips."""
    return sum(map(is_collective, device_ops))
