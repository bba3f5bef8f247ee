"""How long matmuls wait for weights that are prefetched: the stream never stops, but what waits to be read must find room."""

from __future__ import annotations

from collections.abc import Iterable


def waiting(ops: Iterable[tuple[float, float]], room: float, stream: float) -> float:
    """Microseconds by which operations take longer, one after the other, than `ops` says of each: (microseconds, bytes that it reads of what is prefetched).

    `stream` bytes a microsecond arrive from the first operation on, up to `room` bytes ahead of what is read. An operation reads evenly, and gives
    room as it reads; where it reads faster than the stream and nothing is left it goes on as fast as the stream.
    """
    steps = list(ops)
    coming = sum(size for _, size in steps)
    ahead = waited = 0.0
    for us, size in steps:
        taken = us
        if size > 0:
            faster = size / us - stream
            until = ahead / faster if faster > 0 else us  # nothing is left
            if until < us:
                taken = until + (size - size / us * until) / stream
        coming -= size
        waited += taken - us
        ahead = min(ahead + stream * taken - size, room, coming)
    return waited
