"""Tensors between the host and the mesh. `mesh_dims` is (dim split over rows, dim split over columns), None: the same everywhere."""

import ttnn

from . import model_config as cfg

TRACE_REGION_BYTES = (
    268435456  # DRAM of a chip for captured traces: room for a decode step and sampling, and a chunk of each length
)
# L1 of a core for the semaphores of collectives. Without it ttnn puts them where a tensor lay that an operation may still read, and zeroes them.
L1_SMALL_BYTES = 8192


def to_mesh(mesh_device, tensor, mesh_dims, dtype, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG):
    """Put a host tensor on the mesh, each chip its part."""
    mapper = _mapper(mesh_device, mesh_dims)
    return ttnn.from_torch(
        tensor, dtype=dtype, layout=layout, device=mesh_device, memory_config=memory_config, mesh_mapper=mapper
    )


def on_host(mesh_device, tensor, mesh_dims, dtype, layout=ttnn.TILE_LAYOUT):
    """A tensor divided for the chips, still on the host: to be copied into one that the mesh has already."""
    return ttnn.from_torch(tensor, dtype=dtype, layout=layout, mesh_mapper=_mapper(mesh_device, mesh_dims))


def from_mesh(mesh_device, tensor, mesh_dims, partial_axes=()):
    """Read a tensor back to the host. Along `partial_axes` it is the sum of what the chips hold; along others that do not split it the first copy is taken."""
    if _both_on_one(mesh_dims):
        return ttnn.to_torch(tensor, mesh_composer=ttnn.ConcatMeshToTensor(mesh_device, mesh_dims[0]))
    free = iter(d for d in range(len(tensor.shape)) if d not in mesh_dims)
    dims = tuple(next(free) if d is None else d for d in mesh_dims)
    composer = ttnn.ConcatMesh2dToTensor(mesh_device, cfg.MESH_SHAPE, dims)
    whole = ttnn.to_torch(tensor, mesh_composer=composer)
    for axis, (dim, asked, size) in enumerate(zip(dims, mesh_dims, cfg.MESH_SHAPE)):
        if asked is None:
            copies = whole.chunk(size, dim)
            whole = sum(copy.float() for copy in copies) if axis in partial_axes else copies[0]
    return whole


def _mapper(mesh_device, mesh_dims):
    if _both_on_one(mesh_dims):  # over all chips, row by row
        return ttnn.ShardTensorToMesh(mesh_device, mesh_dims[0])
    return ttnn.ShardTensor2dMesh(mesh_device, cfg.MESH_SHAPE, mesh_dims)


def _both_on_one(mesh_dims):
    return mesh_dims[0] is not None and mesh_dims[0] == mesh_dims[1]


def open_mesh():
    """Open the mesh of this package, with the fabric its collectives need."""
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D_RING if cfg.RING else ttnn.FabricConfig.FABRIC_1D)
    return ttnn.open_mesh_device(
        ttnn.MeshShape(*cfg.MESH_SHAPE),
        l1_small_size=L1_SMALL_BYTES,
        trace_region_size=TRACE_REGION_BYTES,
        # A column of dispatch cores: with a row the receivers of some senders would lie outside the grid.
        dispatch_core_config=ttnn.DispatchCoreConfig(ttnn.DispatchCoreType.WORKER, ttnn.DispatchCoreAxis.COL),
    )


def close_mesh(mesh_device):
    """Close what `open_mesh` opened."""
    ttnn.close_mesh_device(mesh_device)
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)
