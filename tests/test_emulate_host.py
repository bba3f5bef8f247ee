"""Host tensors stay ttnn's own, and carry each chip's numbers to and from the mock mesh of 2x4 chips."""

import pytest
import torch
import ttnn

from fx2ttnn.emulate import EmulatedTensor, EmulationError

R, C = MESH = (2, 4)
device = None  # the mesh that is open: conftest.py sets it
KINDS = {"bfloat16": ttnn.TILE_LAYOUT, "bfloat8_b": ttnn.TILE_LAYOUT, "uint32": ttnn.ROW_MAJOR_LAYOUT}
SPLITS = [(0, 1), (1, 0), (None, 1), (0, None), (None, None)]


pytestmark = pytest.mark.usefixtures("mesh")


def some(dtype):
    return torch.randint(0, 2**31 - 1, (64, 256)).int() if dtype == "uint32" else torch.randn(64, 256)


def mapper(dims):
    return ttnn.ShardTensor2dMesh(device, MESH, dims)


def on_host(value, dtype, dims):
    return ttnn.from_torch(value, dtype=getattr(ttnn, dtype), layout=KINDS[dtype], mesh_mapper=mapper(dims))


def on_device(value, dtype, dims):
    return ttnn.from_torch(
        value, dtype=getattr(ttnn, dtype), layout=KINDS[dtype], device=device, mesh_mapper=mapper(dims)
    )


def chips(tensor):
    return torch.stack([ttnn.to_torch(t) for t in ttnn.get_device_tensors(tensor)])


@pytest.mark.parametrize("dims", SPLITS)
@pytest.mark.parametrize("dtype", KINDS)
def test_to_device_and_back(dtype, dims, tmp_path):
    """What a chip holds is what a tensor made on the device holds, and what the host tensor held; also through a file."""
    value = some(dtype)
    host = on_host(value, dtype, dims)
    assert isinstance(host, ttnn.Tensor)
    ttnn.dump_tensor(tmp_path / "x.tensorbin", host)
    loaded = ttnn.load_tensor(tmp_path / "x.tensorbin")
    direct = on_device(value, dtype, dims)
    moved = ttnn.to_device(loaded, device, memory_config=ttnn.DRAM_MEMORY_CONFIG)
    assert isinstance(moved, EmulatedTensor) and moved.spec == direct.spec
    assert moved.value.shape == direct.value.shape and torch.equal(moved.value, direct.value)
    back = ttnn.from_device(moved)
    assert isinstance(back, ttnn.Tensor) and back.spec == host.spec
    assert str(back.tensor_topology()) == str(host.tensor_topology())
    for other in (host, loaded, back, moved.cpu(), ttnn.load_tensor(tmp_path / "x.tensorbin", device=device)):
        assert torch.equal(chips(other), chips(direct))
    composer = ttnn.ConcatMesh2dToTensor(device, MESH, (0, 1))
    whole = ttnn.to_torch(direct, mesh_composer=composer)
    assert torch.equal(ttnn.to_torch(host, mesh_composer=composer), whole)
    assert torch.equal(back.to_torch(mesh_composer=composer), whole)


@pytest.mark.parametrize("dtype", KINDS)
def test_copy_to_a_device_tensor(dtype):
    """In place: the tensor itself and a view of it change, a clone does not."""
    first, second = some(dtype), some(dtype)
    target = on_device(first, dtype, (0, 1))
    clone, before = ttnn.clone(target), chips(target)
    ttnn.copy_host_to_device_tensor(on_host(second, dtype, (0, 1)), target)
    assert torch.equal(chips(target), chips(on_device(second, dtype, (0, 1))))
    assert torch.equal(chips(clone), before)
    ttnn.copy_host_to_device_tensor(on_host(first, dtype, (0, 1)), target)
    assert torch.equal(chips(target), before)


def test_a_tensor_that_was_equal_on_all_chips_takes_different_numbers():
    positions = torch.arange(8, dtype=torch.int32)
    how = {"dtype": ttnn.int32, "layout": ttnn.ROW_MAJOR_LAYOUT}
    target = ttnn.from_torch(torch.zeros(2), **how, device=device, mesh_mapper=mapper((None, None)))
    ttnn.copy_host_to_device_tensor(ttnn.from_torch(positions, **how, mesh_mapper=mapper((None, 0))), target)
    assert chips(target).reshape(R, C * 2).eq(positions).all()
    everywhere = ttnn.from_torch(positions.clone(), **how, mesh_mapper=ttnn.ShardTensorToMesh(device, 0))
    assert chips(ttnn.to_device(everywhere, device)).flatten().equal(positions)
    plain = ttnn.to_device(ttnn.from_torch(positions, **how), device)
    assert chips(plain).eq(positions).all() and plain.value.shape[:2] == (1, 1)


def test_operations_on_host_tensors_are_ttnns_own():
    host = ttnn.from_torch(some("bfloat16"), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)
    rows = ttnn.to_layout(host, ttnn.ROW_MAJOR_LAYOUT)
    assert isinstance(rows, ttnn.Tensor) and torch.equal(ttnn.to_torch(rows), ttnn.to_torch(host))
    assert isinstance(ttnn.zeros((32, 32)), ttnn.Tensor)


@pytest.mark.parametrize("dims", [(0, 1), (None, 1), None])
@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b"])
def test_as_tensor_writes_and_reads_its_cache_file(tmp_path, dtype, dims):
    value = some(dtype)
    spread = ttnn.ReplicateTensorToMesh(device) if dims is None else mapper(dims)
    how = {
        "dtype": getattr(ttnn, dtype),
        "layout": ttnn.TILE_LAYOUT,
        "device": device,
        "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        "mesh_mapper": spread,
    }
    wanted = chips(on_device(value, dtype, dims or (None, None)))
    assert torch.equal(chips(ttnn.as_tensor(value, **how)), wanted)
    assert not list(tmp_path.iterdir())
    for tensor in (value, None):  # the second time the file has it
        found = ttnn.as_tensor(tensor, cache_file_name=tmp_path / "w", **how)
        assert isinstance(found, EmulatedTensor) and torch.equal(chips(found), wanted)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_chips_tensor_is_a_part_of_the_whole():
    """It shows what the whole holds when it is read; ttnn would crash on an operation on it."""
    x = on_device(torch.zeros(64, 256), "bfloat16", (None, None))
    shards = ttnn.get_device_tensors(x)
    ttnn.add_(x, 2.0)
    assert len(shards) == R * C and ttnn.to_torch(shards[5]).eq(2).all()
    with pytest.raises(EmulationError, match="on the tensor of one chip"):
        ttnn.add(shards[5], 1.0)
