"""Which of ttnn's device operations move data between chips."""

from __future__ import annotations

from collections.abc import Sequence

SUFFIX = "DeviceOperation"  # ttnn's graph capture names a device operation after its class

# Parts of class names, from the device operations that ttnn 0.81.1 has; the async, direct and fused variants share them.
CROSSES_CHIPS = (
    "AllBroadcast",
    "AllGather",
    "AllReduce",
    "AllToAll",
    "DistributedRmsnorm",
    "NeighborPad",
    "NpHalo",
    "PointToPoint",
    "RecvAsync",
    "RecvDirect",
    "ReduceScatter",
    "RingDistributedSdpa",
    "RingJointSDPA",
    "SelectiveReduceCombine",
    "SendAsync",
    "SendDirect",
)
STAYS_ON_CHIP = ("PreAllGather", "PostAllGather")  # the halves of a norm before and after its all_gather


def is_collective(device_op: str) -> bool:
    """Whether a device operation moves data between chips."""
    return any(part in device_op for part in CROSSES_CHIPS) and not any(part in device_op for part in STAYS_ON_CHIP)


def count_collectives(device_ops: Sequence[str]) -> int:
    """How many of the device operations move data between chips."""
    return sum(map(is_collective, device_ops))
