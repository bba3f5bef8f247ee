"""Converted weights on disk, so that a later start need not convert, or even read, the checkpoint."""

import fcntl
import hashlib
import os
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import ttnn

from . import model_config as cfg
from .checkpoint import identity


class CacheError(RuntimeError):
    """A file of the cache is damaged."""


class WeightCache:
    """Tensors as they go onto the mesh, each in a file of its own with its sha256 beside it.

    `folder` has a subfolder for each checkpoint, ttnn version and conversion code; file names hold a key of the placement.
    Files are renamed into place when complete, the sha256 last: a start that is killed leaves whole entries, and the next
    goes on from there.
    """

    def __init__(self, folder, state):
        here = Path(__file__).parent
        code = [(here / name).read_text() for name in ("weights.py", "weight_cache.py")]
        self.folder = Path(folder) / _key(identity(state), version("ttnn"), *code)
        self.folder.mkdir(parents=True, exist_ok=True)

    def tensor(self, name, placement, make):
        """The host tensor called `name`, made by `make()` unless it is there. `placement`: all that decides its bytes."""
        file = self.folder / f"{name}-{_key(placement)}.tensorbin"
        digest = Path(f"{file}.sha256")
        if not digest.exists():
            with self._only_writer():
                if not digest.exists():
                    self._write(make(), file, digest)
        elif digest.read_text() != _sha256_line(file, file.name):
            raise CacheError(
                f"{file} is damaged: it differs from its sha256. Delete {digest.name} to have it made again"
            )
        return ttnn.load_tensor(file)

    def _write(self, tensor, file, digest):
        part = self.folder / "part.tensorbin"
        ttnn.dump_tensor(part, tensor)
        line = _sha256_line(part, file.name)
        os.replace(part, file)
        part = self.folder / "part.sha256"
        part.write_text(line)
        os.replace(part, digest)

    @contextmanager
    def _only_writer(self):
        """Processes that fill the same cache take turns."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def to_host(tensor, mesh_dims, dtype, layout):
    """What `to_mesh` puts on the chips, as a host tensor. Converts one chip's part at a time, which needs the least memory."""
    rows, columns = cfg.MESH_SHAPE
    chips = [(row, column) for row in range(rows) for column in range(columns)]
    converted, shards = {}, []
    for chip in chips:
        place = tuple(None if dim is None else at for at, dim in zip(chip, mesh_dims))  # chips of one place are copies
        if place not in converted:
            converted[place] = ttnn.from_torch(_part(tensor, mesh_dims, place), dtype=dtype, layout=layout)
        shards.append(converted[place])
    whole = ttnn.from_host_shards(shards, ttnn.MeshShape(rows, columns))
    whole.update_tensor_topology(_topology(mesh_dims, chips))
    return whole


def _part(tensor, mesh_dims, place):
    for dim, at, size in zip(mesh_dims, place, cfg.MESH_SHAPE):
        if dim is not None:
            tensor = tensor.chunk(size, dim)[at]
    return tensor


def _topology(mesh_dims, chips):
    """How the tensor lies on the mesh, as ttnn's own mappers say it: a dim split over both axes is split over a line of chips."""
    if mesh_dims[0] is not None and mesh_dims[0] == mesh_dims[1]:
        shape, mesh_dims = ttnn.MeshShape([len(chips)]), mesh_dims[:1]
    else:
        shape = ttnn.MeshShape(*cfg.MESH_SHAPE)
    placements = [ttnn.PlacementReplicate() if dim is None else ttnn.PlacementShard(dim) for dim in mesh_dims]
    return ttnn.TensorTopology(shape, placements, [ttnn.MeshCoordinate(*chip) for chip in chips])


def _key(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _sha256_line(file, name):
    """The line that `sha256sum` prints for `file`, once it is on the disk, under the name `name`."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        return f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {name}\n"
