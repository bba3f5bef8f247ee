"""Transfers, collectives and the rules of the emulator, on a mock mesh of 2x4 chips."""

import pytest
import torch
import ttnn
from hypothesis import given, settings
from hypothesis import strategies as st

from fx2ttnn.emulate import EmulatedTensor, EmulationError, emulated_mesh

R, C = MESH = (2, 4)
device = None  # the mesh that is open: conftest.py sets it


pytestmark = pytest.mark.usefixtures("mesh")


def put(value, dims=(None, None), dtype="bfloat16", layout="TILE", **how):
    mapper = ttnn.ShardTensor2dMesh(device, MESH, dims)
    layout = ttnn.TILE_LAYOUT if layout == "TILE" else ttnn.ROW_MAJOR_LAYOUT
    return ttnn.from_torch(value, dtype=getattr(ttnn, dtype), layout=layout, device=device, mesh_mapper=mapper, **how)


def get(tensor, dims=(0, 1)):
    return ttnn.to_torch(tensor, mesh_composer=ttnn.ConcatMesh2dToTensor(device, MESH, dims))


def each_chip(tensor):
    """[R, C, *shard] of all chips, by the public way."""
    return torch.stack([ttnn.to_torch(t) for t in ttnn.get_device_tensors(tensor)]).unflatten(0, MESH)


def integers(*shape):
    """Whole numbers that bfloat16 sums exactly."""
    return torch.randint(-4, 5, shape).float()


shapes = st.tuples(st.sampled_from([8, 16, 32]), st.sampled_from([32, 64]))
axes = st.sampled_from([0, 1])
quick = settings(max_examples=15, deadline=None)


@quick
@given(
    shape=shapes,
    dims=st.sampled_from([(0, 1), (1, 0), (-1, -2)]),
    dtype=st.sampled_from(["float32", "bfloat16", "bfloat8_b"]),
)
def test_there_and_back(shape, dims, dtype):
    value = torch.randn(shape)
    back = get(put(value, dims, dtype), dims).float()
    tolerance = {"float32": 0, "bfloat16": 2**-8, "bfloat8_b": 2**-5}[dtype]
    assert torch.allclose(back, value, rtol=tolerance, atol=tolerance if dtype == "bfloat8_b" else 0)


@quick
@given(shape=shapes, dims=st.sampled_from([(0, 1), (1, 0), (None, 1), (0, None), (None, None)]))
def test_each_chip_holds_its_shard(shape, dims):
    value = integers(*shape)
    shards = each_chip(put(value, dims)).float()
    rows = value.chunk(R, dims[0]) if dims[0] is not None else [value] * R
    for r in range(R):
        cols = rows[r].chunk(C, dims[1]) if dims[1] is not None else [rows[r]] * C
        for c in range(C):
            assert torch.equal(shards[r, c], cols[c])


@quick
@given(axis=axes, dim=st.sampled_from([0, 1, 2, 3, -1, -2]))
def test_gather_undoes_partition(axis, dim):
    value = integers(8, 8, 256, 256)
    x = put(value)
    part = ttnn.mesh_partition(x, dim, axis)
    assert part.value.shape[axis] == MESH[axis] and part.shape[dim] == value.shape[dim] // MESH[axis]
    assert torch.equal(each_chip(ttnn.all_gather(part, dim, cluster_axis=axis)), each_chip(x))


@quick
@given(
    axis=axes,
    dim=st.sampled_from([0, 1, 2, 3, -1]),
    split=st.sampled_from([(0, 1), (1, 0), (None, 1), (0, None), (None, None)]),
)
def test_reduce_scatter_then_gather_is_all_reduce(axis, dim, split):
    x = put(integers(16, 16, 128, 128), split)
    summed = ttnn.all_reduce(x, cluster_axis=axis)
    scattered = ttnn.all_gather(ttnn.reduce_scatter(x, dim, cluster_axis=axis), dim, cluster_axis=axis)
    assert torch.equal(each_chip(scattered), each_chip(summed))
    assert torch.equal(each_chip(summed).float(), each_chip(x).float().sum(axis, keepdim=True).expand_as(each_chip(x)))


def test_partition_of_different_chips_keeps_each_chips_own():
    value = torch.arange(4 * 128.0).reshape(4, 1, 1, 128)
    x = put(value, (None, 0), dtype="float32")
    shards = each_chip(ttnn.mesh_partition(x, 3, 1))
    for c in range(C):
        assert torch.equal(shards[0, c], value[c : c + 1, :, :, 32 * c : 32 * c + 32])


def test_a_wrong_axis_changes_the_numbers():
    x = put(integers(8, 128), (0, 1))
    right, wrong = (each_chip(ttnn.all_reduce(x, cluster_axis=axis)) for axis in (0, 1))
    assert not torch.equal(right, wrong)


@pytest.mark.parametrize("axis", [0, 1])
def test_async_collectives_are_the_plain_ones(axis):
    cores = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(7, 7))})
    semaphores = [ttnn.create_global_semaphore(device, cores, 0) for _ in range(4)]
    x = put(integers(1, 1, 64, 1024), (2, 3))
    how = {"cluster_axis": axis, "topology": ttnn.Topology.Linear, "barrier_semaphore": semaphores[3]}
    target = put(torch.zeros(1, 1, 32, 256 * MESH[axis]))
    out = ttnn.experimental.all_gather_async(
        x, persistent_output_buffer=target, dim=3, multi_device_global_semaphore=semaphores[:2], **how
    )
    gathered = each_chip(ttnn.all_gather(x, 3, cluster_axis=axis))
    assert out is target and torch.equal(each_chip(out), gathered)
    out = ttnn.experimental.reduce_scatter_minimal_async(
        x, persistent_output_buffers=None, dim=3, multi_device_global_semaphore=semaphores[:3], **how
    )
    assert torch.equal(each_chip(out), each_chip(ttnn.reduce_scatter(x, 3, cluster_axis=axis)))


def width_sharded(rows, columns, cores):
    grid = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(cores - 1, 0))})
    spec = ttnn.ShardSpec(grid, [rows, columns // cores], ttnn.ShardOrientation.ROW_MAJOR)
    return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, spec)


@pytest.mark.parametrize("axis", [0, 1])
def test_operations_with_a_persistent_buffer_are_the_plain_ones(axis):
    cores = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(7, 7))})
    semaphores = [ttnn.create_global_semaphore(device, cores, 0) for _ in range(2)]
    dims = (3, None) if axis == 0 else (None, 3)
    value, weight, memory = (
        torch.randn(1, 1, 32, 256 * MESH[axis]),
        torch.randn(256 * MESH[axis]),
        width_sharded(32, 256, 8),
    )
    x = put(value, dims, memory_config=memory)
    how = {"cluster_axis": axis, "mesh_device": device, "topology": ttnn.Topology.Linear, "memory_config": memory}
    buffer = put(torch.zeros(1, 1, 32, 256 * MESH[axis]), memory_config=width_sharded(32, 256 * MESH[axis], 8))
    found = ttnn.experimental.all_reduce_async(
        x, buffer_tensor=buffer, multi_device_global_semaphore=semaphores[0], num_links=1, **how
    )
    assert torch.allclose(each_chip(found).float(), each_chip(ttnn.all_reduce(x, cluster_axis=axis)).float(), atol=0.05)
    gathers = {**how, "memory_config": buffer.memory_config(), "persistent_output_tensor": buffer}
    ttnn.experimental.all_gather_async(x, 3, multi_device_global_semaphore=semaphores, **gathers)
    gathered = ttnn.all_gather(x, 3, cluster_axis=axis, memory_config=buffer.memory_config())
    assert torch.equal(each_chip(buffer), each_chip(gathered))

    config = ttnn.LayerNormShardedMultiCoreProgramConfig(
        compute_with_storage_grid_size=(8, 1), subblock_w=1, block_h=1, block_w=1, inplace=False
    )
    stats = put(torch.zeros(1, 1, 32, 32 * MESH[axis]), memory_config=width_sharded(32, 32 * MESH[axis], 1))
    rows = put(weight.reshape(1, 1, -1, 32), (2, None) if axis == 0 else (None, 2), layout="ROW_MAJOR")
    norm = {"epsilon": 1e-6, "weight": rows, "program_config": config}
    found = ttnn.fused_rms_minimal(x, global_semaphore=semaphores[1], stats=stats, **norm, **how)
    held = each_chip(x).float().select(1 - axis, 0)[:, 0, 0]  # [chips of the axis, 32, 256]
    squares = held.square().sum((0, -1)) / (256 * MESH[axis])
    wanted = held * torch.rsqrt(squares + 1e-6)[:, None] * weight.bfloat16().float().reshape(-1, 1, 256)
    assert torch.allclose(each_chip(found).float().select(1 - axis, 0)[:, 0, 0], wanted, rtol=0.02, atol=0.02)


def test_all_broadcast():
    x = put(integers(32, 128), (None, 1))
    outs = ttnn.all_broadcast(x, cluster_axis=1)
    assert len(outs) == C
    for c, out in enumerate(outs):
        assert torch.equal(each_chip(out)[0, 0], each_chip(x)[0, c])


def test_sum_is_rounded_to_the_output_type():
    x = put(torch.full((R, 32), 1 + 2**-7), (0, None))
    assert get(ttnn.all_reduce(x, cluster_axis=0))[0, 0] == torch.tensor(2 + 2**-6).bfloat16()
    y = put(torch.tensor([[256.0] * 32, [1.0] * 32]), (0, None))
    assert get(ttnn.all_reduce(y, cluster_axis=0))[0, 0] == 258  # 257 is no bfloat16, and a tie: away from zero


def test_collective_without_axis_is_refused_where_it_is_ambiguous():
    with pytest.raises(EmulationError, match="cluster_axis"):
        ttnn.all_reduce(put(torch.zeros(32, 32)))


def test_one_dim_mappers_and_composers():
    value = integers(16, 32)
    x = ttnn.from_torch(value, device=device, mesh_mapper=ttnn.ShardTensorToMesh(device, 0))
    assert torch.equal(ttnn.to_torch(x, mesh_composer=ttnn.ConcatMeshToTensor(device, 0)), value)
    assert torch.equal(each_chip(x).flatten(0, 2), value)
    y = ttnn.from_torch(value, device=device, mesh_mapper=ttnn.ReplicateTensorToMesh(device))
    assert ttnn.to_torch(y, mesh_composer=ttnn.ConcatMeshToTensor(device, 0)).shape == (128, 32)
    config = ttnn.MeshMapperConfig([ttnn.PlacementReplicate(), ttnn.PlacementShard(1)])
    z = ttnn.from_torch(value, device=device, mesh_mapper=ttnn.create_mesh_mapper(device, config))
    composer = ttnn.create_mesh_composer(device, ttnn.MeshComposerConfig([0, 1]))
    assert torch.equal(ttnn.to_torch(z, mesh_composer=composer)[:16], value)


@pytest.mark.parametrize("dims", [(None, 1), (1, 0), (None, None)])
@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b"])
def test_big_tensors_are_allocated_as_small_ones_are_made(monkeypatch, dims, dtype):
    from fx2ttnn.emulate.ops import transfer

    value = torch.randn(64, 128)
    small = put(value, dims, dtype)
    monkeypatch.setattr(transfer, "BIG", 1)
    big = put(value, dims, dtype)
    assert big.spec == small.spec and str(big.tensor_topology()) == str(small.tensor_topology())
    assert torch.equal(big.value, small.value)


def test_big_tensors_are_refused_as_small_ones(monkeypatch):
    from fx2ttnn.emulate.ops import transfer

    grid = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(3, 0))})
    shard = ttnn.ShardSpec(grid, (32, 32), ttnn.ShardOrientation.ROW_MAJOR)
    narrow = ttnn.MemoryConfig(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, shard)
    messages = []
    for limit in (1 << 20, 1):
        monkeypatch.setattr(transfer, "BIG", limit)
        with pytest.raises(RuntimeError) as refused:
            put(torch.zeros(32, 256), memory_config=narrow)
        messages.append(str(refused.value).split("backtrace")[0])
        with pytest.raises(RuntimeError, match="unique"):
            put(torch.zeros(8, 32), (0, 0))
    assert messages[0] == messages[1]


def test_unknown_operation_is_an_error():
    with pytest.raises(EmulationError, match="ttnn.rand has no emulation: add one"):
        ttnn.rand((32, 32), device=device)
    with pytest.raises(EmulationError, match="ttnn.erfinv"):
        ttnn.erfinv(put(torch.zeros(32, 32)))


def test_unknown_argument_is_an_error():
    x = put(torch.zeros(1, 1, 32, 160))
    with pytest.raises(EmulationError, match="the argument kv_tied of ttnn.experimental.nlp_create_qkv_heads"):
        ttnn.experimental.nlp_create_qkv_heads(x, num_heads=4, num_kv_heads=1, kv_tied=True, transpose_k_heads=False)


def test_real_error_comes_through():
    x = put(torch.zeros(32, 64))
    with pytest.raises(RuntimeError, match="width of the first tensor must be equal to the height") as refused:
        ttnn.linear(x, x)
    assert not isinstance(refused.value, EmulationError)
    with pytest.raises(TypeError, match="_no_such_argument"):
        ttnn.add(x, x, _no_such_argument=1)


def test_a_wrong_emulation_cannot_pass(monkeypatch):
    import dataclasses

    from fx2ttnn.emulate.registry import EMULATIONS

    wrong = dataclasses.replace(EMULATIONS["ttnn.relu"], function=lambda input_tensor: input_tensor.value[..., :1])
    monkeypatch.setitem(EMULATIONS, "ttnn.relu", wrong)
    with pytest.raises(EmulationError, match="shape"):
        ttnn.relu(put(torch.zeros(32, 32)))


def test_use_after_deallocate_is_an_error():
    x = put(torch.zeros(32, 32))
    ttnn.deallocate(x)
    assert not x.is_allocated()
    with pytest.raises(RuntimeError):
        ttnn.add(x, 1.0)
    with pytest.raises(EmulationError, match="deallocated"):
        x.value  # noqa: B018


def test_change_in_place_spares_the_source_and_copies():
    source = torch.ones(32, 32)
    x = put(source, dtype="float32")
    copy = ttnn.clone(x)
    ttnn.add_(x, 1.0)
    assert torch.equal(get(x)[0, 0], torch.tensor(2.0))
    assert torch.equal(get(copy)[0, 0], torch.tensor(1.0)) and source[0, 0] == 1


def test_change_in_place_shows_in_a_view():
    x = put(torch.ones(1, 1, 32, 64), layout="ROW_MAJOR", dtype="int32")
    ttnn.plus_one(x)
    view = ttnn.experimental.view(x, (1, 1, 1, 2048))
    assert view.buffer_address() == x.buffer_address()
    ttnn.plus_one(x)
    assert get(view)[0, 0, 0, 0] == 3


def test_uninitialised_memory_shows():
    x = ttnn.empty((32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    assert get(ttnn.add(x, 1.0)).isnan().all()


def test_tensor_made_by_ttnn():
    assert get(ttnn.zeros((32, 32), dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT, device=device)).eq(0).all()
    assert get(ttnn.full((32, 32), 1.5, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)).eq(1.5).all()
    assert each_chip(ttnn.arange(0, 10, 2, dtype=ttnn.int32, device=device))[1, 3].tolist() == [0, 2, 4, 6, 8]


def test_tensor_methods_and_operators():
    value = integers(32, 64)
    x = put(value)
    assert isinstance(x, EmulatedTensor) and tuple(x.shape) == (32, 64) and x.device().shape == device.shape
    assert torch.equal(get((x + 2) * x - x)[:32, :64].float(), (value + 2) * value - value)
    assert torch.equal(get(1.0 - x)[:32, :64].float(), 1 - value)
    assert torch.equal(get(x[0:16, :])[:16, :64].float(), value[:16])
    assert torch.equal(get(x.reshape(64, 32))[:64, :32].float(), value.reshape(64, 32))
    with pytest.raises(EmulationError, match="to_list"):
        x.to_list()


def test_every_registered_name_is_an_operation_of_ttnn():
    from fx2ttnn.emulate.registry import EMULATIONS

    for name in EMULATIONS:
        found = ttnn
        for part in name.removeprefix("ttnn.").split("."):
            found = getattr(found, part)
        assert name == "ttnn.Tensor.__getitem__" or found.python_fully_qualified_name == name


def test_other_mesh_in_the_same_process_is_an_error():
    with pytest.raises(EmulationError, match="another process"), emulated_mesh((1, 1)):
        pass


def test_padding_is_not_seen():
    x = put(torch.full((1, 1, 3, 5), 2.0))
    assert tuple(x.padded_shape) == (1, 1, 32, 32)
    assert each_chip(ttnn.sum(x, dim=-1))[0, 0].eq(10).all()
