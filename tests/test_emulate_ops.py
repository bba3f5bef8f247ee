"""Single operations of the emulator against plain torch and the vendor's references, on 2x4 mock chips."""

import pytest
import torch
import ttnn
from torch.nn import functional

from fx2ttnn.emulate import EmulationError
from fx2ttnn.emulate.matrix_unit import Compute
from fx2ttnn.emulate.rounding import to_bits

R, C = MESH = (2, 4)
device = None  # the mesh that is open: conftest.py sets it


pytestmark = pytest.mark.usefixtures("mesh")


def put(value, dims=(None, None), dtype="float32", layout="TILE", memory_config=None):
    mapper = ttnn.ShardTensor2dMesh(device, MESH, dims)
    layout = ttnn.TILE_LAYOUT if layout == "TILE" else ttnn.ROW_MAJOR_LAYOUT
    where = memory_config or ttnn.DRAM_MEMORY_CONFIG
    kind = getattr(ttnn, dtype)
    return ttnn.from_torch(value, dtype=kind, layout=layout, device=device, mesh_mapper=mapper, memory_config=where)


def one(tensor):
    """The first chip's shard."""
    return ttnn.to_torch(ttnn.get_device_tensors(tensor)[0])


def get(tensor, dims=(0, 1)):
    return ttnn.to_torch(tensor, mesh_composer=ttnn.ConcatMesh2dToTensor(device, MESH, dims))


def near(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape
    assert torch.allclose(found.float(), wanted.float(), rtol=tolerance, atol=tolerance), (found - wanted).abs().max()


def compute(fidelity="HiFi4", fp32=True):
    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity), fp32_dest_acc_en=fp32, packer_l1_acc=True
    )


# Elementwise --------------------------------------------------------------------------------------------------------

_NAMES = "exp sqrt rsqrt reciprocal relu sigmoid tanh sin cos neg square abs log"
UNARY = {name: getattr(torch, name) for name in _NAMES.split()}
UNARY |= {name: getattr(functional, name) for name in ("silu", "gelu", "softplus")}


@pytest.mark.parametrize("name", sorted(UNARY))
def test_unary(name):
    x = torch.rand(1, 1, 32, 64) + 0.1
    near(one(getattr(ttnn, name)(put(x))), UNARY[name](x))


_NAMES = "add subtract multiply div maximum minimum pow gt lt eq ge le"
BINARY = {name: getattr(torch, name) for name in _NAMES.split()}


@pytest.mark.parametrize("name", sorted(BINARY))
@pytest.mark.parametrize("shape", [(1, 1, 32, 64), (1, 1, 1, 64), (1, 1, 32, 1), (32, 64)])
def test_binary_broadcasts(name, shape):
    a, b = torch.rand(1, 2, 32, 64) + 0.5, torch.rand(shape) + 0.5
    near(one(getattr(ttnn, name)(put(a), put(b))), BINARY[name](a, b))


def test_scalars_on_both_sides():
    x = torch.rand(32, 64) + 0.5
    near(one(ttnn.multiply(put(x), 2.5)), x * 2.5)
    near(one(ttnn.add(2.5, put(x))), x + 2.5)
    near(one(ttnn.rsub(put(x), 1.0)), 1 - x)
    near(one(ttnn.div(1.0, put(x))), 1 / x)
    near(one(ttnn.pow(put(x), 3)), x**3)
    near(one(ttnn.maximum(put(x), 1.0)), x.clamp(min=1))


def test_fused_activations_and_dtype():
    a, b = torch.randn(32, 64), torch.randn(32, 64)
    x = ttnn.mul(put(a), put(b), input_tensor_a_activations=[ttnn.UnaryOpType.SILU], dtype=ttnn.bfloat16)
    near(one(x), (functional.silu(a) * b).bfloat16(), 0)
    relu = ttnn.UnaryWithParam(ttnn.UnaryOpType.RELU)
    near(one(ttnn.add(put(a), put(b), activations=[relu])), torch.relu(a + b))
    with pytest.raises(EmulationError, match="HARDTANH"):
        ttnn.add(put(a), put(b), activations=[ttnn.UnaryWithParam(ttnn.UnaryOpType.HARDTANH, -1.0, 1.0)])


ACTIVATIONS = {
    "GELU": functional.gelu,
    "RELU": functional.relu,
    "SILU": functional.silu,
    "TANH": torch.tanh,
    "SIGMOID": torch.sigmoid,
    "SQUARE": torch.square,
    "GELU_TANH": lambda x: functional.gelu(x, approximate="tanh"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("sharded", [False, True])
def test_gated_products(name, sharded):
    """As in an MLP: the gate's activation in the product."""
    a, b = torch.randn(1, 1, 32, 256), torch.randn(1, 1, 32, 256)
    strategy, orientation = ttnn.ShardStrategy.WIDTH, ttnn.ShardOrientation.ROW_MAJOR
    where = ttnn.create_sharded_memory_config((1, 1, 32, 256), ttnn.CoreGrid(x=4, y=1), strategy, orientation)
    memory = where if sharded else ttnn.DRAM_MEMORY_CONFIG
    x, y = (put(t, dtype="bfloat16", memory_config=memory) for t in (a, b))
    activations = [getattr(ttnn.UnaryOpType, name)]
    out = ttnn.multiply(x, y, input_tensor_a_activations=activations, memory_config=memory)
    near(one(out), ACTIVATIONS[name](a.bfloat16().float()) * b.bfloat16().float(), 1e-2)


def test_relu_squared_and_fast_gelu():
    x = torch.randn(32, 64)
    squared = [ttnn.UnaryWithParam(ttnn.UnaryOpType.RELU), ttnn.UnaryWithParam(ttnn.UnaryOpType.SQUARE)]
    near(one(ttnn.add(put(x), 0.0, activations=squared)), torch.relu(x) ** 2)
    near(one(ttnn.square(ttnn.relu(put(x)))), torch.relu(x) ** 2)
    near(one(ttnn.gelu(put(x), fast_and_approximate_mode=True)), functional.gelu(x))


def test_in_place():
    a, b = torch.randn(32, 64), torch.randn(32, 64)
    x = put(a)
    assert ttnn.add_(x, put(b)) is x
    ttnn.multiply_(x, 2.0)
    near(one(x), (a + b) * 2)
    out = put(torch.zeros(32, 64))
    ttnn.add(put(a), put(b), output_tensor=out)
    near(one(out), a + b)


def test_the_rest_of_elementwise():
    a, b, c = torch.randn(32, 64), torch.randn(32, 64), torch.randn(32, 64)
    near(one(ttnn.where(put((a > 0).float()), put(b), put(c))), torch.where(a > 0, b, c))
    near(one(ttnn.where(put((a > 0).float()), 1.0, 0.0)), (a > 0).float())
    near(one(ttnn.addcmul(put(a), put(b), put(c), value=0.5)), a + 0.5 * b * c)
    near(one(ttnn.clip(put(a), -0.5, 0.5)), a.clamp(-0.5, 0.5))
    positions = put(torch.tensor([3, -1, 5, 0], dtype=torch.int32), dtype="int32", layout="ROW_MAJOR")
    ttnn.plus_one(positions, skip_negative_entries=True)
    assert one(positions).tolist() == [4, -1, 6, 1]
    ttnn.plus_one(positions)
    assert one(positions).tolist() == [5, 0, 7, 2]


# Movement -----------------------------------------------------------------------------------------------------------


def test_movement():
    x = torch.randn(2, 4, 32, 64)
    t = put(x)
    near(one(ttnn.permute(t, (0, 2, 1, 3))), x.permute(0, 2, 1, 3), 0)
    near(one(ttnn.transpose(t, 1, -1)), x.transpose(1, -1), 0)
    near(one(ttnn.reshape(t, (1, 8, 32, -1))), x.reshape(1, 8, 32, 64), 0)
    near(one(ttnn.slice(t, (0, 1, 0, 32), (2, 3, 32, 64))), x[:, 1:3, :, 32:], 0)
    near(one(ttnn.slice(t, [0, 0, 0, 0], [2, 4, 32, 64], [1, 2, 1, 1])), x[:, ::2], 0)
    near(one(ttnn.concat([t, t], dim=-2)), torch.cat([x, x], dim=-2), 0)
    near(one(ttnn.pad(t, [(0, 0), (0, 0), (0, 0), (0, 32)], value=1.5)), functional.pad(x, (0, 32), value=1.5), 0)
    near(one(ttnn.pad(t, [2, 4, 64, 64], [0, 0, 0, 0], 0.0)), functional.pad(x, (0, 0, 0, 32)), 0)
    near(one(ttnn.repeat(t, (1, 2, 1, 1))), x.repeat(1, 2, 1, 1), 0)
    near(one(ttnn.repeat_interleave(t, 3, 1)), x.repeat_interleave(3, 1), 0)
    near(one(ttnn.unsqueeze(t, 0)), x[None], 0)
    near(one(ttnn.squeeze(ttnn.unsqueeze(t, 0), 0)), x, 0)
    near(one(ttnn.unsqueeze_to_4D(put(x[0, 0]))), x[:1, :1], 0)
    near(torch.stack([one(p) for p in ttnn.split(t, 32, dim=3)]), torch.stack(x.split(32, dim=3)), 0)
    near(one(ttnn.to_layout(t, ttnn.ROW_MAJOR_LAYOUT)), x, 0)
    near(one(ttnn.untilize(t)), x, 0)
    near(one(ttnn.tilize(ttnn.untilize(t))), x, 0)
    near(one(ttnn.typecast(t, ttnn.bfloat16)), x.bfloat16(), 0)
    assert one(ttnn.typecast(put(torch.full((32, 32), 2.75)), ttnn.int32)).eq(2).all()


def test_concat_of_equal_and_different_chips():
    a, b = torch.randn(32, 32), torch.randn(32, 128)
    out = get(ttnn.concat([put(a), put(b, (None, 1))], dim=0), (0, 1))
    for c in range(C):
        near(out[:64, 32 * c : 32 * c + 32], torch.cat([a, b[:, 32 * c : 32 * c + 32]]), 0)


def test_sharding_keeps_numbers():
    x = torch.randn(1, 1, 32, 256)
    grid = ttnn.CoreGrid(x=4, y=1)
    strategy, orientation = ttnn.ShardStrategy.WIDTH, ttnn.ShardOrientation.ROW_MAJOR
    sharded = ttnn.create_sharded_memory_config((1, 1, 32, 256), grid, strategy, orientation)
    t = ttnn.to_memory_config(put(x), sharded)
    assert t.is_sharded() and t.memory_config() == sharded
    near(one(ttnn.sharded_to_interleaved(t, ttnn.L1_MEMORY_CONFIG)), x, 0)
    near(one(ttnn.interleaved_to_sharded(put(x), sharded)), x, 0)
    near(one(ttnn.clone(t)), x, 0)
    target = put(torch.zeros_like(x))
    ttnn.copy(put(x), target)
    near(one(target), x, 0)


@pytest.mark.parametrize("split", [(None, None), (None, 1), (0, None), (0, 1)])
def test_embedding(split):
    """A vocabulary split over the rows of chips, a hidden dim over the columns."""
    table, ids = torch.randn(64, 256).bfloat16(), torch.randint(0, 32, (1, 32))
    weight = put(table, split, "bfloat16", "ROW_MAJOR")
    out = ttnn.embedding(put(ids.int(), dtype="uint32", layout="ROW_MAJOR"), weight, layout=ttnn.TILE_LAYOUT)
    rows = table[:32] if split[0] == 0 else table
    wanted = rows[ids] if split[1] is None else rows[ids][..., :64]
    near(one(out), wanted, 0)


def test_embedding_of_different_numbers_per_chip():
    table, ids = torch.randn(64, 32).bfloat16(), torch.randint(0, 64, (4, 32))
    weight = put(table, (None, None), "bfloat16", "ROW_MAJOR")
    out = ttnn.embedding(put(ids.int(), (None, 0), "uint32", "ROW_MAJOR"), weight)
    near(get(out, (1, 0))[:, :32], table[ids], 0)


# Reductions ---------------------------------------------------------------------------------------------------------


def test_reductions():
    x = torch.randn(1, 2, 32, 64)
    t = put(x)
    near(one(ttnn.sum(t, dim=-1, keepdim=True)), x.sum(-1, keepdim=True))
    near(one(ttnn.mean(t, dim=1)), x.mean(1))
    near(one(ttnn.max(t, dim=3)), x.amax(3))
    near(one(ttnn.min(t, dim=-2, keepdim=True)), x.amin(-2, keepdim=True))
    near(one(ttnn.softmax(t, dim=-1)), torch.softmax(x, -1))
    near(one(ttnn.cumsum(t, dim=3)), x.cumsum(3))


def test_choices():
    x = torch.randperm(32 * 128).reshape(1, 1, 32, 128).float() / 16
    t = put(x.bfloat16(), dtype="bfloat16")
    rows = put(x.bfloat16(), dtype="bfloat16", layout="ROW_MAJOR")
    wanted = x.bfloat16().float().argmax(-1)
    assert torch.equal(one(ttnn.argmax(rows, dim=3)).long(), wanted)
    assert torch.equal(one(ttnn.argmax(rows, dim=3, keepdim=True)).long(), wanted[..., None])
    values, indices = ttnn.topk(t, k=32)
    near(one(values), x.bfloat16().topk(32).values, 0)
    near(x.bfloat16().gather(-1, one(indices).long()), one(values), 0)


def test_topk_of_a_split_vocabulary():
    """Each column of chips takes its own best; the labels of its own part come along; both are gathered, then the best of all."""
    vocabulary, k = 1024, 32
    x = torch.randperm(32 * vocabulary).reshape(1, 1, 32, vocabulary).bfloat16()
    labels = torch.arange(vocabulary).expand(1, 1, 32, -1).int().contiguous()
    found = ttnn.topk(put(x, (None, 3), "bfloat16"), k=k, dim=-1, indices_tensor=put(labels, (None, 3), "uint32"))
    values, names = (ttnn.all_gather(t, 3, cluster_axis=1) for t in found)
    assert names.dtype == ttnn.uint32 and names.value.shape[:2] == (1, 1)
    best, places = ttnn.topk(values, k=k)
    assert places.dtype == ttnn.uint16
    wanted = x.float().topk(k)
    near(one(best), wanted.values.bfloat16(), 0)
    chosen = ttnn.gather(names, 3, index=places)
    near(x.gather(-1, one(chosen).long()), wanted.values, 0)


def test_stable_topk_takes_the_first_of_equals():
    x = torch.zeros(1, 1, 32, 64)
    x[..., 40:] = 1
    _, places = ttnn.topk(put(x, dtype="bfloat16"), k=32, stable=True)
    assert torch.equal(one(places).long()[0, 0, 0], torch.cat([torch.arange(40, 64), torch.arange(8)]))


@pytest.mark.parametrize("dtype", ["uint32", "int32", "uint16"])
@pytest.mark.parametrize("layout", ["ROW_MAJOR", "TILE"])
def test_all_gather_of_integers(dtype, layout):
    x = torch.randint(0, 60000, (1, 1, 32, 128)).int()
    out = ttnn.all_gather(put(x, (None, 3), dtype, layout), 3, cluster_axis=1)
    assert torch.equal(one(out).int(), x)


def test_argmax_takes_the_first_of_equals_in_both_layouts():
    x = torch.randint(0, 9, (1, 1, 32, 256)).bfloat16()
    wanted = (x == x.amax(-1, keepdim=True)).int().argmax(-1)
    for layout in ("ROW_MAJOR", "TILE"):
        assert torch.equal(one(ttnn.argmax(put(x, dtype="bfloat16", layout=layout), dim=3)).long(), wanted)


def test_scatter_and_gather():
    base, new = torch.randn(1, 1, 32, 128).bfloat16(), torch.randn(1, 1, 32, 32).bfloat16()
    places = torch.stack([torch.randperm(128)[:32] for _ in range(32)])[None, None]
    index = put(places.int(), dtype="uint32")
    a, b = put(base, dtype="bfloat16"), put(new, dtype="bfloat16")
    near(one(ttnn.scatter(a, 3, index, b)), base.scatter(3, places, new), 0)
    near(one(ttnn.gather(a, 3, index=index)), base.gather(3, places), 0)


def draw(x, names, k, p, temperature, seed=None):
    users = x.shape[2]
    how = {"layout": "ROW_MAJOR"}
    out = ttnn.sampling(
        put(x, dtype="bfloat16"),
        put(names.expand_as(x).int().contiguous(), dtype="uint32", **how),
        put(torch.full((users,), k, dtype=torch.int32), dtype="uint32", **how),
        put(torch.full((users,), p), dtype="bfloat16", **how),
        put(torch.full((users,), 1 / temperature), dtype="bfloat16", **how),
        **({} if seed is None else {"seed": seed}),
    )
    assert tuple(out.shape) == (1, 1, 1, users)
    return one(out).long().flatten()


def test_sampling_of_the_best_and_within_the_top():
    x = torch.randn(1, 1, 32, 64).bfloat16()
    names = torch.arange(1000, 1064)
    best = 1000 + x.float().argmax(-1).flatten()
    assert torch.equal(draw(x, names, 1, 1.0, 1.0, 0), best)
    assert torch.equal(draw(x, names, 32, 0.0, 1.0, 0), best)
    allowed = 1000 + x.float().topk(3).indices[0, 0]
    drawn = torch.stack([draw(x, names, 3, 1.0, 1.0, seed) for seed in range(5)], dim=-1)
    assert (drawn[:, :, None] == allowed[:, None, :]).any(-1).all() and drawn.unique().numel() > 32


def test_sampling_is_decided_by_the_seed():
    x, names = torch.randn(1, 1, 32, 64).bfloat16(), torch.arange(64)
    first = draw(x, names, 32, 1.0, 1.0, seed=3)
    following = draw(x, names, 32, 1.0, 1.0)
    assert not torch.equal(first, following) and not torch.equal(first, draw(x, names, 32, 1.0, 1.0, seed=4))
    assert torch.equal(first, draw(x, names, 32, 1.0, 1.0, seed=3))
    assert torch.equal(following, draw(x, names, 32, 1.0, 1.0))
    ttnn.manual_seed(3, device=device)
    assert torch.equal(first, draw(x, names, 32, 1.0, 1.0))


def seed_users(users, seeds):
    users, seeds = (
        put(torch.tensor(list(x), dtype=torch.int64).to(torch.uint32), dtype="uint32", layout="ROW_MAJOR")
        for x in (users, seeds)
    )
    ttnn.manual_seed(seeds, user_ids=users)


def test_each_user_has_a_generator():
    """With equal logits a draw shows the random number: users with one seed draw the same, and one may be seeded alone."""
    x, names = torch.zeros(1, 1, 32, 64).bfloat16(), torch.arange(64)

    def draws():
        return torch.stack([draw(x, names, 32, 1.0, 1.0) for _ in range(8)])

    ttnn.manual_seed(3, device=device)
    same = draws()
    assert (same == same[:, :1]).all() and same.unique().numel() > 1
    seed_users(range(32), range(50, 82))
    own = draws()
    assert own.unique(dim=1).shape[1] == 32
    seed_users(range(32), range(50, 82))
    draws()
    seed_users([5], [55])
    again = draws()
    assert torch.equal(again[:, 5], own[:, 5]) and not (again == own).all(0)[torch.arange(32) != 5].any()
    seed_users(range(32), range(50, 82))
    seed_users([5], [2**32 - 1])  # leaves the state
    assert torch.equal(draws(), own)


@pytest.mark.parametrize("p", [1.0, 0.75])
def test_sampling_draws_from_the_distribution(p):
    """2048 draws of a user against the probabilities at temperature 2, the rarest left out where they lie behind `p`."""
    logits = torch.linspace(0, 4, 32).bfloat16()
    x, names = logits.expand(1, 1, 32, 32), torch.arange(32)
    counts = torch.zeros(32)
    seed_users(range(32), range(100, 132))
    for _ in range(64):
        counts += torch.bincount(draw(x, names, 32, p, 2.0), minlength=32)
    wanted = torch.softmax(logits.float() / 2, -1).flip(0)
    before = wanted.cumsum(0) - wanted
    wanted = wanted.masked_fill(before > p, 0).flip(0)
    wanted /= wanted.sum()
    assert (counts / counts.sum() - wanted).abs().max() < 0.02 and counts[wanted == 0].eq(0).all()


# Products -----------------------------------------------------------------------------------------------------------


def test_linear_column_then_row_parallel():
    """w1 split by columns and w2 by rows over the mesh's columns; K of w1 over the mesh's rows."""
    x, w1, w2 = torch.randn(32, 64), torch.randn(64, 128), torch.randn(128, 64)
    h = ttnn.linear(put(x, (1, None)), put(w1, (0, 1)))
    h = ttnn.all_reduce(h, cluster_axis=0)
    y = ttnn.all_reduce(ttnn.linear(h, put(w2, (None, 0))), cluster_axis=1)
    assert y.value.shape[:2] == (1, 1)
    near(one(y), x @ w1 @ w2, 1e-4)
    wrong = ttnn.all_reduce(ttnn.linear(h, put(w2, (None, 0))), cluster_axis=0)
    assert not torch.allclose(one(wrong), x @ w1 @ w2, rtol=0.1)


def test_linear_arguments():
    x, w, b = torch.randn(1, 1, 32, 64), torch.randn(96, 64), torch.randn(1, 96)
    out = ttnn.linear(put(x), put(w), bias=put(b), transpose_b=True, activation="silu")
    near(one(out), functional.silu(x @ w.T + b), 1e-4)
    out = ttnn.linear(put(x), put(w.T.contiguous(), dtype="bfloat8_b"), dtype=ttnn.bfloat16)
    assert out.dtype == ttnn.bfloat16
    near(one(out), (x @ w.T).bfloat16(), 0.3)
    out = ttnn.matmul(put(x.mT.contiguous()), put(w.T.contiguous()), transpose_a=True)
    near(one(out), x @ w.T, 1e-4)


def test_matmul_broadcasts_batches():
    a, b = torch.randn(1, 4, 32, 64), torch.randn(64, 32)
    near(one(ttnn.matmul(put(a), put(b))), a @ b, 1e-4)
    c = torch.randn(1, 4, 64, 32)
    near(one(ttnn.matmul(put(a), put(c))), a @ c, 1e-4)


def test_linear_with_a_program_for_sharded_dram():
    x, w = torch.randn(1, 1, 32, 256).bfloat16(), torch.randn(1, 1, 256, 384).bfloat16()
    L1, row = ttnn.ShardStrategy.WIDTH, ttnn.ShardOrientation.ROW_MAJOR
    where = ttnn.create_sharded_memory_config((1, 1, 32, 256), ttnn.CoreGrid(x=4, y=1), L1, row)
    banks = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(11, 0))})
    spec = ttnn.ShardSpec(banks, (256, 32), row)
    dram = ttnn.MemoryConfig(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, spec)
    program = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
        in0_block_w=2, per_core_M=1, per_core_N=3, fused_activation=ttnn.UnaryOpType.SILU
    )
    a, b = put(x, dtype="bfloat16", memory_config=where), put(w, dtype="bfloat16", memory_config=dram)
    where = {"program_config": program, "memory_config": ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG}
    out = ttnn.linear(a, b, compute_kernel_config=compute(), **where)
    near(one(out), functional.silu(x.float() @ w.float()).bfloat16(), 0)


@pytest.mark.parametrize("of_a", [(1, 1), (1, 4), (2, 1), (2, 4)])
@pytest.mark.parametrize("of_b", [(1, 1), (1, 4), (2, 1), (2, 4)])
def test_product_over_chips_and_in_chunks(monkeypatch, of_a, of_b):
    from fx2ttnn.emulate.ops import matmul

    a, b = torch.randn(*of_a, 2, 3, 8), torch.randn(*of_b, 1, 8, 200).bfloat16()
    near(matmul.product(a, b, Compute(4, True)), a @ b.float())
    monkeypatch.setattr(matmul, "_BLOCK", b.numel() // 5)
    near(matmul.product(a, b, Compute(4, True)), a @ b.float())


def test_big_products_round_once():
    x, w = torch.randn(32, 1024).bfloat16(), torch.randn(1024, 1024).bfloat16()
    out = ttnn.linear(put(x, dtype="bfloat16"), put(w, dtype="bfloat16"), compute_kernel_config=compute())
    wanted = (x.double() @ w.double()).bfloat16()
    assert (one(out) != wanted).float().mean() < 0.01  # halves that the order of the sum decides


def sparse(a, b, sparsity, **how):
    """With one core for each tile of the result's width."""
    grid = ttnn.CoreCoord(b.shape[-1] // 32, 1)
    program = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=grid, in0_block_w=1, out_subblock_h=1, out_subblock_w=1, out_block_h=1,
        out_block_w=1, per_core_M=1, per_core_N=1, fuse_batch=False, fused_activation=None, mcast_in0=True,
    )  # fmt: skip
    return ttnn.sparse_matmul(a, b, sparsity=sparsity, program_config=program, **how)


def test_sparse_matmul_multiplies_by_each_chips_experts():
    """8 experts, 2 on each column of chips; which of them are wanted differs per token block."""
    a, b = torch.randn(1, 2, 32, 64), torch.randn(1, 8, 64, 128)
    wanted = torch.tensor([[1, 0, 0, 0.5, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 2]]).reshape(1, 2, 1, 8)
    experts, mask = put(b, (None, 1)), put(wanted, (None, 3), "bfloat16", "ROW_MAJOR")
    out = get(sparse(put(a), experts, mask), (0, 3))[:1]  # [1, 2, 1, 2 on each of 4 columns, 32, 128]
    reference = (a[:, :, None, None] @ b) * (wanted != 0)[..., None, None]
    near(out, reference, 1e-4)
    down = torch.randn(1, 8, 128, 64)
    hidden = put(reference[:, 1], (None, 2))  # [1, 1, 8, 32, 128]
    hidden = ttnn.reshape(hidden, (1, 2, 32, 128))
    mask = put(wanted[:, 1:], (None, 3), "bfloat16", "ROW_MAJOR")
    out = sparse(hidden, put(down, (None, 1)), mask, is_input_a_sparse=True)
    near(get(out, (0, 1))[:1], reference[0, 1] @ down, 1e-3)


def test_sparse_matmul_with_a_wrong_number_of_experts_is_refused():
    a, b = put(torch.randn(1, 1, 32, 64)), put(torch.randn(1, 4, 64, 32))
    mask = put(torch.tensor([1.0, 0, 1, 0]).reshape(1, 1, 1, 4), (None, None), "bfloat16", "ROW_MAJOR")
    sparse(a, b, mask, nnz=2)
    with pytest.raises(EmulationError, match="a card hangs"):
        sparse(a, b, mask, nnz=3)


# Norms --------------------------------------------------------------------------------------------------------------


def rms(x, w, eps=1e-6):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


def test_rms_norm_with_both_shapes_of_weight():
    x, w = torch.randn(1, 1, 32, 128), torch.rand(128)
    near(one(ttnn.rms_norm(put(x), epsilon=1e-6, weight=put(w.reshape(1, 1, 1, 128)))), rms(x, w))
    rows = put(w.reshape(1, 1, 4, 32), dtype="float32", layout="ROW_MAJOR")
    near(one(ttnn.rms_norm(put(x), epsilon=1e-6, weight=rows)), rms(x, w))
    near(one(ttnn.rms_norm(put(x), epsilon=1e-6, weight=rows, residual_input_tensor=put(x))), rms(2 * x, w))
    assert not torch.allclose(one(ttnn.rms_norm(put(x), epsilon=1.0, weight=rows)), rms(x, w), rtol=1e-2)


def test_layer_norm():
    x, w, b = torch.randn(1, 1, 32, 128), torch.rand(128), torch.randn(128)
    out = ttnn.layer_norm(put(x), epsilon=1e-5, weight=put(w[None]), bias=put(b[None]))
    near(one(out), functional.layer_norm(x, (128,), w, b, 1e-5))


@pytest.mark.parametrize("kind", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("residual", [False, True])
def test_split_norm_is_the_whole_norm(kind, residual):
    x, r, w = torch.randn(1, 1, 32, 512), torch.randn(1, 1, 32, 512), torch.rand(512)
    a = put(x, (None, 3))
    exact = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi4, fp32_dest_acc_en=True)
    more = {"residual_input_tensor": put(r, (None, 3)) if residual else None}
    stats = getattr(ttnn, f"{kind}_pre_all_gather")(a, dtype=ttnn.float32, compute_kernel_config=exact, **more)
    stats = ttnn.all_gather(stats, 3, cluster_axis=1)
    if residual:  # the kernel for interleaved inputs leaves the input as it is
        a = ttnn.add(a, put(r, (None, 3)))
    weight = put(w.reshape(1, 1, 16, 32), (None, 2), layout="ROW_MAJOR")
    out = getattr(ttnn, f"{kind}_post_all_gather")(a, stats, epsilon=1e-5, weight=weight, compute_kernel_config=exact)
    whole = x + r if residual else x
    wanted = rms(whole, w, 1e-5) if kind == "rms_norm" else functional.layer_norm(whole, (512,), eps=1e-5) * w
    tolerance = 1e-2 if stats.dtype == ttnn.bfloat16 else 1e-4
    near(get(out, (0, 3))[:1], wanted, tolerance)


def test_sharded_split_norm_adds_the_residual_in_place():
    x, r = torch.randn(1, 1, 32, 1024).bfloat16(), torch.randn(1, 1, 32, 1024).bfloat16()
    strategy, orientation = ttnn.ShardStrategy.WIDTH, ttnn.ShardOrientation.ROW_MAJOR
    where = ttnn.create_sharded_memory_config((1, 1, 32, 256), ttnn.CoreGrid(x=4, y=1), strategy, orientation)
    a, b = put(x, (None, 3), "bfloat16", memory_config=where), put(r, (None, 3), "bfloat16", memory_config=where)
    program = ttnn.LayerNormShardedMultiCoreProgramConfig(
        compute_with_storage_grid_size=(4, 1), subblock_w=2, block_h=1, block_w=2, inplace=False
    )
    ttnn.rms_norm_pre_all_gather(a, residual_input_tensor=b, program_config=program)
    near(get(a, (0, 3))[:1], to_bits(x.float() + r.float(), 8), 0)


@pytest.mark.parametrize("kind", ["rms_norm", "layer_norm"])
def test_norm_of_a_sharded_input(kind):
    x, w, b = torch.randn(1, 1, 32, 256), torch.rand(256), torch.randn(256)
    strategy, orientation = ttnn.ShardStrategy.WIDTH, ttnn.ShardOrientation.ROW_MAJOR
    where = ttnn.create_sharded_memory_config((1, 1, 32, 256), ttnn.CoreGrid(x=4, y=1), strategy, orientation)
    program = ttnn.LayerNormShardedMultiCoreProgramConfig(
        compute_with_storage_grid_size=(4, 1), subblock_w=2, block_h=1, block_w=2, inplace=False
    )
    weight, bias = (put(t.reshape(1, 1, 8, 32), dtype="bfloat16", layout="ROW_MAJOR") for t in (w, b))
    out = getattr(ttnn, kind)(
        put(x, dtype="bfloat16", memory_config=where), epsilon=1e-5, weight=weight, bias=bias, program_config=program,
        memory_config=where,
    )  # fmt: skip
    x, w, b = (t.bfloat16().float() for t in (x, w, b))
    wanted = functional.layer_norm(x, (256,), w, b, 1e-5) if kind == "layer_norm" else rms(x, w, 1e-5) + b
    near(one(out), wanted, 2e-2)


# The vendor's references --------------------------------------------------------------------------------------------


def golden(op, *args, **kwargs):
    return ttnn.get_golden_function(op)(*args, **kwargs)


def test_vendor_references_agree():
    x, y, w = torch.randn(1, 1, 32, 64), torch.randn(1, 1, 32, 64), torch.randn(64, 32)
    near(one(ttnn.linear(put(x), put(w))), golden(ttnn.linear, x, w), 1e-4)
    near(one(ttnn.rms_norm(put(x), weight=put(y[0, 0, :1]))), golden(ttnn.rms_norm, x, weight=y[0, 0, :1]), 1e-4)
    for name in ("add", "multiply", "subtract"):
        op = getattr(ttnn, name)
        near(one(op(put(x), put(y))), golden(op, x, y))
    for name in ("silu", "gelu", "exp", "sigmoid"):
        op = getattr(ttnn, name)
        near(one(op(put(x))), golden(op, x))
    near(one(ttnn.softmax(put(x), dim=-1)), golden(ttnn.softmax, x, dim=-1))
    for name in ("rms_norm_pre_all_gather", "layer_norm_pre_all_gather"):
        op = getattr(ttnn, name)
        near(one(op(put(x, dtype="bfloat16"))), golden(op, x.bfloat16().float()), 1e-2)
