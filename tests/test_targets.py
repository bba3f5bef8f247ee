"""Targets are data: what they say of a chip is what the real ttnn finds on the mock, which takes packages for them."""

import os
import re
import subprocess
import sys

import pytest
from suites import assert_passes, run_suite
from tiny import package

from fx2ttnn import targets
from fx2ttnn.check import check
from fx2ttnn.check.mock import cluster_descriptor, mock_environment
from fx2ttnn.lower.values import Memory, Tensor
from fx2ttnn.lower.vocabulary import Vocabulary
from fx2ttnn.precision import PRECISIONS

NEW = ["p150", "t3k_2x4", "galaxy_blackhole"]
OPEN = """
import ttnn
device = ttnn.open_mesh_device(ttnn.MeshShape({rows}, {columns}))
grid, banks = device.compute_with_storage_grid_size(), device.dram_grid_size()
l1 = ttnn.get_memory_view(device, ttnn.BufferType.L1).total_bytes_per_bank
print("found", (grid.x, grid.y), banks.x * banks.y, l1)
ttnn.close_mesh_device(device)
"""


@pytest.mark.parametrize("name", ["n150", "p150"])
def test_the_mock_has_the_cores_and_banks_of_the_target(name):
    target = targets.load(name)
    code = OPEN.format(rows=target.mesh_shape[0], columns=target.mesh_shape[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **mock_environment(target)}
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("found"))
    assert line.startswith(f"found {target.grid} {target.dram_banks} ")
    assert target.l1_usable_bytes < int(line.split()[-1]) < target.l1_bytes


RINGS = """
import ttnn
ttnn.set_fabric_config(ttnn.FabricConfig.{fabric})
device = ttnn.open_mesh_device(ttnn.MeshShape({rows}, {columns}))
x = ttnn.zeros([1, 1, 32, 32], device=device)
print("found", *(ttnn.get_usable_topology(x, ttnn.Topology.Ring, axis).name for axis in (0, 1)))
"""


@pytest.mark.parametrize("name", ["galaxy", "galaxy_blackhole", "t3k_2x4"])
def test_ttnn_closes_the_rings_of_a_galaxy(name):
    """Anywhere else it silently runs a ring as a line, with other operations than on the machine."""
    target = targets.load(name)
    code = RINGS.format(fabric=target.fabric, rows=target.mesh_shape[0], columns=target.mesh_shape[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **mock_environment(target)}
    )
    assert f"found {'Ring Ring' if target.trays else 'Linear Linear'}" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", targets.names())
def test_a_chip_has_channels_for_all_its_neighbours(name):
    target = targets.load(name)
    text = cluster_descriptor(target)
    assert all(int(channel) < target.ethernet_channels for channel in re.findall(r"chan: (\d+)", text))
    assert text.count(f"harvest_mask: {target.tensix_harvesting}\n") >= target.chips


@pytest.mark.parametrize("name", targets.names())
def test_users_lie_on_a_rectangle_of_cores(name):
    """What a reshape and nlp_concat_heads_decode of ttnn need; heads made by ttnn lie on the first cores in order."""
    words = Vocabulary(targets.load(name), PRECISIONS["performance"], "decode")
    heads = Tensor("query", (1, 32, 8, 64), "bfloat16", "TILE", Memory("L1"))
    assert len(words.users_on_cores(heads).cores) == 1
    assert words.users_on_cores(heads).core_count == words.users_in_order(heads).core_count == 32


READERS = """
import ttnn
device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
cores = lambda n: ttnn.CoreRangeSet([ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(n - 1, 0))])
memory = lambda buffer, n, shape: ttnn.MemoryConfig(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, buffer, ttnn.ShardSpec(cores(n), shape, ttnn.ShardOrientation.ROW_MAJOR))
zeros = lambda rows, columns, memory: ttnn.zeros(
    [1, 1, rows, columns], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device, memory_config=memory)
x = zeros(32, 32, memory(ttnn.BufferType.L1, 1, (32, 32)))
for columns, readers in {columns}:
    weight = zeros(32, columns, memory(ttnn.BufferType.DRAM, {banks}, (32, -(-columns // (32 * {banks})) * 32)))
    program = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
        in0_block_w=1, per_core_M=1, per_core_N=columns // 32, num_workers_per_dram_bank=readers)
    ttnn.linear(x, weight, program_config=program, memory_config=memory(ttnn.BufferType.L1, 1, (32, columns)))
    print("taken", columns, readers)
"""


def test_each_reader_of_a_bank_has_columns():
    """2880 columns of gpt-oss leave the last of 16 readers without, and ttnn then refuses the matmul."""
    target = targets.load("p150")
    columns = [(n, target.readers_of_a_bank(n)) for n in (288, 2880, 3072)]
    assert columns == [(288, 1), (2880, 1), (3072, 2)]
    code = READERS.format(columns=columns, banks=target.dram_banks)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **mock_environment(target)}
    )
    assert done.stdout.count("taken") == len(columns), done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", NEW)
def test_ttnn_accepts_a_package(name):
    result = check(package("qwen3", name))
    assert result.ok, result.to_json()
    assert result.statement == f"accepted by ttnn's host code on a mock {name}; not run on silicon"


@pytest.mark.slow
def test_modules_equal_hugging_face_on_blackhole():
    assert_passes(run_suite(package("qwen3", "p150"), "tests/modules"))
