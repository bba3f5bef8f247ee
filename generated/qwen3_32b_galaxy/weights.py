"""From a checkpoint to tensors on the mesh."""

from collections.abc import Mapping
from pathlib import Path

import torch
import ttnn

from . import model_config as cfg
from . import position_tables
from .mesh import to_mesh


class Checkpoint(Mapping):
    """The tensors of a folder of safetensors files by name, read when asked for."""

    def __init__(self, folder):
        from safetensors import safe_open

        files = sorted(Path(folder).glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"no safetensors files in {folder}")
        opened = [safe_open(file, framework="pt") for file in files]
        self._files = {name: file for file in opened for name in file.keys()}

    def __getitem__(self, name):
        return self._files[name].get_tensor(name)

    def __iter__(self):
        return iter(self._files)

    def __len__(self):
        return len(self._files)


class Weights:
    """Tensors of a checkpoint, placed on the mesh. Names are relative to `prefix`; `root` sees the whole checkpoint."""

    def __init__(self, mesh_device, state, prefix=""):
        self.mesh_device, self.state, self.prefix = mesh_device, state, prefix

    @property
    def root(self):
        return Weights(self.mesh_device, self.state)

    def at(self, path):
        """The same checkpoint, seen from a submodule."""
        return Weights(self.mesh_device, self.state, f"{self.prefix}{path}.")

    def read(self, name):
        """A tensor of the checkpoint; raises KeyError with its full name where it is missing."""
        full = self.prefix + name
        if full not in self.state:
            raise KeyError(f"the checkpoint has no tensor {full!r}")
        return self.state[full].detach()

    def joined(self, names, parts):
        """Several tensors as one along dim 0, so that each of `parts` equal slices holds its share of all of them."""
        names = [names] if isinstance(names, str) else names
        shares = [torch.chunk(self.read(name), parts) for name in names]
        return (
            torch.cat([share[part] for part in range(parts) for share in shares])
            if len(names) > 1
            else self.read(names[0])
        )

    def linear(self, names, dtype, memory_config, parts=1, mesh_dims=(None, None)):
        """Weights [N, K] of linear layers that share an input -> [1, 1, K, N]."""
        weight = self.joined(names, parts).T.unsqueeze(0).unsqueeze(0)
        return to_mesh(self.mesh_device, weight, mesh_dims, dtype, memory_config=memory_config)

    def bias(self, names, parts=1, mesh_dims=(None, None), partial_axis=None):
        """Biases [N] -> [1, 1, 1, N]. Along `partial_axis` the outputs are summed: one chip holds the bias, the others zero."""
        bias = self.joined(names, parts).reshape(1, 1, 1, -1)
        if partial_axis is not None:
            zeros = torch.zeros_like(bias).expand(cfg.MESH_SHAPE[partial_axis] - 1, -1, -1, -1)
            bias = torch.cat([bias, zeros])
            mesh_dims = tuple(0 if axis == partial_axis else dim for axis, dim in enumerate(mesh_dims))
        return to_mesh(self.mesh_device, bias, mesh_dims, ttnn.bfloat16)

    def norm(self, name, mesh_dims=(None, None)):
        """Weight [H] of a norm -> rows of one tile width, [1, 1, H / 32, 32]."""
        weight = self.read(name).reshape(1, 1, -1, ttnn.TILE_SIZE)
        return to_mesh(self.mesh_device, weight, mesh_dims, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)

    def embedding(self, name, mesh_dims=(None, None)):
        """Table [V, H] -> [1, 1, V, H], row major."""
        table = self.read(name).unsqueeze(0).unsqueeze(0)
        return to_mesh(self.mesh_device, table, mesh_dims, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)

    def position_table(self, table):
        """One row for each position, [1, 1, MAX_SEQ_LEN, size]: function `table` of position_tables.py."""
        rows = position_tables.rows(getattr(position_tables, table))
        return to_mesh(self.mesh_device, rows, (None, None), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)

    def first_user(self, batch, mesh_dims):
        """The first of the users that a chip attends for, [1, 1] on each chip."""
        groups = [size for size, dim in zip(cfg.MESH_SHAPE, mesh_dims) if dim is not None]
        count = torch.tensor(groups).prod().item()
        first = torch.arange(0, batch, batch // count, dtype=torch.int32).reshape(count, 1)
        split = tuple(i for i, dim in enumerate(mesh_dims) if dim is not None)
        if len(split) == 2:  # rows first, then columns within a row
            first, mesh_dims = first.reshape(cfg.MESH_SHAPE), (0, 1)
        return to_mesh(self.mesh_device, first, mesh_dims, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
