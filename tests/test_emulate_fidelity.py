"""The emulator's numbers against those of the vendor's kernels: what benchmarks/fidelity.py measures, as small cases.

The numbers called measured are what ttnn 0.81.1's kernels gave on a Wormhole chip of the vendor's functional simulator.
"""

import pytest
import torch
import ttnn

from fx2ttnn.emulate.ops import collectives
from fx2ttnn.emulate.ops.attention import fast_exponential
from fx2ttnn.emulate.rounding import pack, to_bits

R, C = MESH = (2, 4)
device = None  # the mesh that is open: conftest.py sets it


pytestmark = pytest.mark.usefixtures("mesh")


def put(value, dtype="bfloat16", dims=(None, None)):
    value = value.bfloat16() if dtype == "bfloat16" else value
    where = {"device": device, "memory_config": ttnn.DRAM_MEMORY_CONFIG}
    mapper = ttnn.ShardTensor2dMesh(device, MESH, dims)
    return ttnn.from_torch(value, dtype=getattr(ttnn, dtype), layout=ttnn.TILE_LAYOUT, mesh_mapper=mapper, **where)


def row(numbers, dtype="bfloat16"):
    """A tile whose first row begins with these numbers."""
    tile = torch.zeros(1, 1, 32, 32)
    tile[..., 0, : len(numbers)] = torch.tensor(numbers)
    return put(tile, dtype)


def first(tensor, count):
    return ttnn.to_torch(ttnn.get_device_tensors(tensor)[0]).float()[0, 0, 0, :count].tolist()


def compute(fidelity, fp32=True):
    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity), fp32_dest_acc_en=fp32, packer_l1_acc=True
    )


def test_a_sum_is_aligned_to_11_bits_and_rounds_ties_away_from_zero():
    """The third pair's exact sum would round down; aligned, it is a tie. Measured."""
    out = ttnn.add(row([256.0, -256.0, 1.0]), row([1.0, -1.0, 2**-8 - 2**-12]))
    assert first(out, 3) == [258.0, -258.0, 1 + 2**-7]


def test_the_product_of_two_bfloat16_rounds_to_even():
    """131 / 128 * 1.5 is 196.5 / 128. Measured."""
    assert first(ttnn.multiply(row([131 / 128]), row([1.5])), 1) == [196 / 128]


def test_typecasts():
    """float32 to bfloat16 rounds to even, bfloat16 to bfloat8_b once, ties away from zero; to bfloat4_b 7 bits, then cut. Measured."""
    assert first(ttnn.typecast(row([1 + 2**-8, 1 + 3 * 2**-8], "float32"), ttnn.bfloat16), 2) == [1.0, 1 + 2**-6]
    block = [1.0, 1 + 2**-7, 0.51953125, -0.51953125]
    assert first(ttnn.typecast(row(block), ttnn.bfloat8_b), 4) == [1.0, 1 + 2**-6, 0.515625, -0.515625]
    assert first(ttnn.typecast(row([1.0, 0.49, 0.26, -0.49]), ttnn.bfloat4_b), 4) == [1.0, 0.5, 0.25, -0.5]


def test_other_results_in_bfloat8_b_are_rounded_twice():
    """To 7 bits, then to the shared exponent: 33.25 steps become 33.5, and 34. Measured."""
    out = ttnn.add(row([1.0, 1 + 2**-7, 0.51953125, -0.51953125]), row([0.0]), dtype=ttnn.bfloat8_b)
    assert first(out, 4) == [1.0, 1 + 2**-6, 0.53125, -0.53125]


@pytest.mark.parametrize(
    "fidelity, activation, weight",
    [("LoFi", 1.0, 1.0), ("HiFi2", 1.0, 1 + 2**-5), ("HiFi3", 1 + 2**-7, 1 + 2**-5), ("HiFi4", 1 + 2**-7, 1 + 2**-5)],
)
def test_bits_of_operands(fidelity, activation, weight):
    """What is left of an activation of 8 bits, and of a weight of 6, in a product with 1. Measured."""
    one, how = torch.zeros(1, 1, 32, 64), {"compute_kernel_config": compute(fidelity)}
    one[..., 0, 0] = 1
    unit = put(one.mT.contiguous())
    assert first(ttnn.linear(put(one * (1 + 2**-7)), unit, **how), 1) == [activation]
    assert first(ttnn.linear(put(one), put(one.mT.contiguous() * (1 + 2**-5)), **how), 1) == [weight]


@pytest.mark.parametrize("fp32, wanted", [(True, 1 + 2**-6), (False, 1 + 3 * 2**-7)])
def test_sums_without_fp32_dest_acc(fp32, wanted):
    """1 and three times half of its last bit, each in another step of the sum: in bfloat16 each rounds up. Measured."""
    x = torch.zeros(1, 1, 32, 64)
    x[..., 0, [0, 16, 32, 48]] = torch.tensor([1.0, 2**-8, 2**-8, 2**-8])
    out = ttnn.linear(put(x), put(torch.ones(1, 1, 64, 32)), compute_kernel_config=compute("HiFi4", fp32))
    assert first(out, 1) == [wanted]


@pytest.mark.parametrize(
    "weights, fidelity, fp32, scale, tolerance",
    [
        ("bfloat16", "LoFi", True, 0.978, 2e-3),
        ("bfloat8_b", "LoFi", True, 0.985, 2e-3),
        ("bfloat16", "HiFi2", True, 0.9972, 5e-4),
        ("bfloat16", "HiFi4", True, 1.0, 5e-4),
        ("bfloat16", "HiFi4", False, 1.003, 2e-3),
        ("bfloat4_b", "LoFi", True, 0.9972, 5e-4),
    ],
)
def test_the_bias_of_a_product(weights, fidelity, fp32, scale, tolerance):
    """How much smaller or larger products are on average. A change of HiFi4 to LoFi can be seen."""
    torch.manual_seed(0)
    x, w = put(torch.randn(1, 1, 32, 512)), put(torch.randn(1, 1, 512, 256) * 0.05, weights)
    exact = (x.value.float() @ w.value.float())[0, 0]
    out = ttnn.linear(x, w, dtype=ttnn.bfloat16, compute_kernel_config=compute(fidelity, fp32)).value.float()[0, 0]
    assert ((out * exact).sum() / exact.square().sum()).item() == pytest.approx(scale, abs=tolerance)


def test_a_residual_in_bfloat8_b_grows():
    """128 additions: the published loss of OLMo with such a residual (its standard deviation grew by 43 % over 64 layers)."""
    torch.manual_seed(0)
    exact = torch.randn(1, 1, 32, 512)
    sums = {"bfloat16": put(exact), "bfloat8_b": put(exact, "bfloat8_b")}
    for _ in range(128):
        more = torch.randn_like(exact) * 0.1
        exact = exact + more
        sums = {dtype: ttnn.add(x, put(more), dtype=getattr(ttnn, dtype)) for dtype, x in sums.items()}
    growth = {dtype: (x.value.float().std() / exact.std()).item() for dtype, x in sums.items()}
    assert growth["bfloat8_b"] > 1.15
    assert 0 < growth["bfloat16"] - 1 < 0.05


def test_the_fast_exponential():
    """Between powers of two it is a straight line: up to 3 % from the exponential, and 0 far below it."""
    x = torch.linspace(-20, 0, 2001)
    ratio = fast_exponential(x) / x.exp()
    assert 0.96 < ratio.min() < 0.98 and 1.02 < ratio.max() < 1.04
    assert fast_exponential(torch.tensor([-100.0, float("-inf")])).tolist() == [0, 0]
    assert fast_exponential(torch.tensor(0.0)) == 1 - 11 * 2**-9  # (32501 - 32512) / 512 below 1


def test_decode_attention_takes_the_fast_exponential():
    """Over two keys whose scores differ by a little, its weights are not the softmax."""
    keys, values = torch.zeros(2, 1, 1, 32, 64)
    keys[0, 0, 0, 0], values[0, 0, 0] = 8.0, 1.0
    q = torch.zeros(1, 1, 1, 64)
    q[..., 0] = 0.75
    where = {"dtype": ttnn.int32, "device": device, "mesh_mapper": ttnn.ReplicateTensorToMesh(device)}
    table, at = (ttnn.from_torch(torch.tensor(x, dtype=torch.int32), **where) for x in ([[0]], [1]))
    out = ttnn.transformer.paged_scaled_dot_product_attention_decode(
        put(q), put(keys), put(values), table, cur_pos_tensor=at, scale=0.125, compute_kernel_config=compute("HiFi4")
    )
    high, low = fast_exponential(torch.tensor(0.0)), fast_exponential(torch.tensor(-0.75))
    assert first(out, 1) == [to_bits(high / (high + to_bits(low, 8)), 8).item()]
    assert first(out, 1) != [torch.tensor([0.75, 0.0]).softmax(0)[0].bfloat16().item()]


def test_sums_hop_by_hop(monkeypatch):
    """Each partial sum is stored in the tensor's type, in the order that ends at the chip that keeps the part."""
    monkeypatch.setattr(collectives, "HOP_BY_HOP", True)
    torch.manual_seed(0)
    parts = torch.randn(C, 32, 128).bfloat16()
    x = put(parts.flatten(0, 1)[None, None], dims=(None, 2))
    wanted = []
    for end in range(C):
        hops = [parts[(end + 1 + hop) % C, :, 32 * end : 32 * end + 32].float() for hop in range(C)]
        total = hops[0]
        for part in hops[1:]:
            total = pack(total + part, "BFLOAT16").float()
        wanted.append(total)
    wanted = torch.cat(wanted, dim=-1)
    assert torch.equal(ttnn.all_reduce(x, cluster_axis=1).value[0, 0, 0, 0].float(), wanted)
    scattered = ttnn.reduce_scatter(x, 3, cluster_axis=1).value[0].float()
    assert torch.equal(torch.cat(list(scattered[:, 0, 0]), dim=-1), wanted)
    monkeypatch.setattr(collectives, "HOP_BY_HOP", False)
    once = ttnn.all_reduce(x, cluster_axis=1).value[0, 0, 0, 0].float()
    assert torch.equal(once, to_bits(parts.float().sum(0), 8)) and not torch.equal(once, wanted)
