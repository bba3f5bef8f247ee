"""Collectives of the package: ttnn's, with the topology and the links of this machine.

`cluster_axis` 0 runs along a column of the mesh (over its 8 rows), 1 along a row (over its 4 columns).
"""

import ttnn

TOPOLOGY = (ttnn.Topology.Ring, ttnn.Topology.Ring)
NUM_LINKS = 4  # Ethernet links to a neighbour


def all_reduce(tensor, cluster_axis, memory_config, num_links=NUM_LINKS, subdevice_id=None):
    """Sum over the chips of an axis, on all of them."""
    return ttnn.all_reduce(
        tensor,
        cluster_axis=cluster_axis,
        memory_config=memory_config,
        num_links=num_links,
        topology=TOPOLOGY[cluster_axis],
        subdevice_id=subdevice_id,
    )


def reduce_scatter(tensor, dim, cluster_axis, memory_config, num_links=NUM_LINKS, subdevice_id=None):
    """Sum over the chips of an axis; each keeps its part of `dim`."""
    return ttnn.reduce_scatter(
        tensor,
        dim,
        cluster_axis=cluster_axis,
        memory_config=memory_config,
        num_links=num_links,
        topology=TOPOLOGY[cluster_axis],
        subdevice_id=subdevice_id,
    )


def all_gather(tensor, dim, cluster_axis, memory_config, subdevice_id=None):
    """The parts of the chips of an axis joined along `dim`, on all of them. ttnn chooses topology and links of this one itself."""
    return ttnn.all_gather(
        tensor, dim, cluster_axis=cluster_axis, memory_config=memory_config, subdevice_id=subdevice_id
    )


def mesh_partition(tensor, dim, cluster_axis, memory_config):
    """Each chip of an axis keeps its part of `dim`."""
    return ttnn.mesh_partition(tensor, dim, cluster_axis, memory_config=memory_config)
