"""How near the emulator's numbers are to those of the vendor's kernels, operation by operation: docs/fidelity.md.

    python benchmarks/fidelity.py --kernels RESULTS.pt    # with a simulator or a card: runs the kernels, keeps what they give
    python benchmarks/fidelity.py --compare RESULTS.pt    # anywhere: runs the emulator on the same inputs, writes the page

The first needs ttnn with one Wormhole chip: a card, or the vendor's functional simulator (TT_METAL_SIMULATOR, and
TT_METAL_RUNTIME_ROOT with a compiler for the kernels). Each case is a few lines of ttnn and gives one tensor or several; both sides run
the same lines on the same seeded inputs. The second exits with 1 when a case is further off than its bound.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "fidelity.md"
VERSIONS = "versions"  # in the file of results, beside the cases


@dataclass(frozen=True)
class Case:
    """`run(ttnn, put)` gives {name: tensor on the device}; `rms`: the bound of the relative rms difference, 0: bit-equal."""

    name: str
    run: Callable[..., dict[str, Any]]
    rms: float


CASES: list[Case] = []


def case(name: str, rms: float = 0.0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the case `name`."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append(Case(name, run, rms))
        return run

    return register


def compute(ttnn: Any, fidelity: str, fp32: bool = True) -> Any:
    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity),
        math_approx_mode=False,
        fp32_dest_acc_en=fp32,
        packer_l1_acc=True,
    )


# Matrix products: weights' type x fidelity x accumulation -------------------------------------------------------------

ROWS, INNER, COLUMNS = 32, 512, 256
# Relative rms bounds, by fidelity and fp32_dest_acc_en: the order of products within the matrix unit is not emulated.
LINEAR = {("LoFi", True): 2e-3, ("HiFi2", True): 2e-3, ("HiFi3", True): 2e-3, ("HiFi4", True): 2e-3,
          ("LoFi", False): 6e-3, ("HiFi2", False): 6e-3, ("HiFi4", False): 6e-3}  # fmt: skip


def linear_case(weights: str, fidelity: str, fp32: bool, out: str, rms: float) -> None:
    accumulated = "float32" if fp32 else "bfloat16"

    @case(f"linear, {weights} weights, {fidelity}, {accumulated} sums, {out} result", rms)
    def run(ttnn: Any, put: Any) -> dict[str, Any]:
        x, w = put(torch.randn(1, 1, ROWS, INNER)), put(torch.randn(1, 1, INNER, COLUMNS) * 0.05, weights)
        return {"y": ttnn.linear(x, w, dtype=getattr(ttnn, out), compute_kernel_config=compute(ttnn, fidelity, fp32))}


for weights in ("bfloat16", "bfloat8_b", "bfloat4_b"):
    for (fidelity, fp32), bound in LINEAR.items():
        linear_case(weights, fidelity, fp32, "bfloat16", bound)
for fidelity, fp32, bound in (("HiFi2", True, 4e-3), ("HiFi3", True, 4e-3), ("HiFi4", False, 1e-2)):
    linear_case("bfloat8_b", fidelity, fp32, "bfloat8_b", bound)


@case("linear without a compute configuration", 6e-3)
def linear_default(ttnn: Any, put: Any) -> dict[str, Any]:
    x, w = put(torch.randn(1, 1, ROWS, INNER)), put(torch.randn(1, 1, INNER, COLUMNS) * 0.05)
    return {"y": ttnn.linear(x, w)}


@case("linear of float32, HiFi4, float32 result", 2e-3)
def linear_float32(ttnn: Any, put: Any) -> dict[str, Any]:
    x, w = put(torch.randn(1, 1, ROWS, INNER), "float32"), put(torch.randn(1, 1, INNER, COLUMNS) * 0.05, "float32")
    return {"y": ttnn.linear(x, w, dtype=ttnn.float32, compute_kernel_config=compute(ttnn, "HiFi4"))}


@case("matmul of batches, HiFi2", 2e-3)
def matmul_batches(ttnn: Any, put: Any) -> dict[str, Any]:
    a, b = put(torch.randn(1, 4, 32, 128)), put(torch.randn(1, 4, 128, 64))
    return {"y": ttnn.matmul(a, b, compute_kernel_config=compute(ttnn, "HiFi2"))}


@case("linear of bfloat8_b with a fused SiLU", 4e-3)
def linear_silu(ttnn: Any, put: Any) -> dict[str, Any]:
    x, w = put(torch.randn(1, 1, ROWS, INNER), "bfloat8_b"), put(torch.randn(1, 1, INNER, COLUMNS) * 0.05)
    return {"y": ttnn.linear(x, w, activation="silu", compute_kernel_config=compute(ttnn, "HiFi3"))}


# Elements -------------------------------------------------------------------------------------------------------------


def spread(*shape: int) -> torch.Tensor:
    """Numbers whose exponents differ within a block of 16."""
    return torch.randn(*shape) * torch.exp2(torch.randint(-3, 4, shape).float())


for kind in ("bfloat16", "bfloat8_b"):
    for op in ("add", "subtract", "multiply"):

        @case(f"{op}, {kind}")
        def binary(ttnn: Any, put: Any, op: str = op, kind: str = kind) -> dict[str, Any]:
            return {"y": getattr(ttnn, op)(put(spread(1, 1, 64, 512), kind), put(spread(1, 1, 64, 512), kind))}


@case("add, bfloat16 to bfloat8_b")
def add_to_bfp8(ttnn: Any, put: Any) -> dict[str, Any]:
    return {"y": ttnn.add(put(spread(1, 1, 64, 512)), put(spread(1, 1, 64, 512)), dtype=ttnn.bfloat8_b)}


@case("multiply with a fused SiLU, bfloat16", 2e-3)
def multiply_silu(ttnn: Any, put: Any) -> dict[str, Any]:
    a, b = put(torch.randn(1, 1, 64, 512)), put(torch.randn(1, 1, 64, 512))
    return {"y": ttnn.multiply(a, b, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])}


@case("multiply with a fused SiLU, bfloat8_b", 2e-3)
def multiply_silu_bfp8(ttnn: Any, put: Any) -> dict[str, Any]:
    a, b = put(torch.randn(1, 1, 64, 512), "bfloat8_b"), put(torch.randn(1, 1, 64, 512), "bfloat8_b")
    return {"y": ttnn.multiply(a, b, input_tensor_a_activations=[ttnn.UnaryOpType.SILU], dtype=ttnn.bfloat8_b)}


@case("silu, exp, rsqrt", 4e-3)
def unary(ttnn: Any, put: Any) -> dict[str, Any]:
    x = torch.randn(1, 1, 64, 512)
    return {"silu": ttnn.silu(put(x)), "exp": ttnn.exp(put(x)), "rsqrt": ttnn.rsqrt(put(x.abs() + 0.1))}


@case("multiply, bfloat16 to bfloat8_b")
def multiply_to_bfp8(ttnn: Any, put: Any) -> dict[str, Any]:
    return {"y": ttnn.multiply(put(spread(1, 1, 64, 512)), put(spread(1, 1, 64, 512)), dtype=ttnn.bfloat8_b)}


@case("multiply and add, bfloat16 and bfloat8_b")
def mixed(ttnn: Any, put: Any) -> dict[str, Any]:
    a, b = put(spread(1, 1, 64, 512)), put(spread(1, 1, 64, 512), "bfloat8_b")
    return {
        "product": ttnn.multiply(a, b),
        "turned": ttnn.multiply(b, a),
        "sum": ttnn.add(a, b),
        "other": ttnn.add(b, a),
    }


@case("multiply and add, a row for all rows, bfloat16")
def broadcast(ttnn: Any, put: Any) -> dict[str, Any]:
    a, b = put(spread(1, 1, 64, 512)), put(spread(1, 1, 1, 512))
    return {"product": ttnn.multiply(a, b), "sum": ttnn.add(a, b)}


@case("multiply and add, bfloat16 and a number")
def numbers(ttnn: Any, put: Any) -> dict[str, Any]:
    a = put(spread(1, 1, 64, 512))
    return {"product": ttnn.multiply(a, 0.3), "sum": ttnn.add(a, 0.3)}


@case("multiply and add, float32")
def elements_float32(ttnn: Any, put: Any) -> dict[str, Any]:
    a, b = put(spread(1, 1, 64, 512), "float32"), put(spread(1, 1, 64, 512), "float32")
    return {"product": ttnn.multiply(a, b), "sum": ttnn.add(a, b)}


for source, target in (("float32", "bfloat16"), ("float32", "bfloat8_b"), ("bfloat16", "bfloat8_b"), ("bfloat16", "bfloat4_b"),
                       ("bfloat8_b", "bfloat16")):  # fmt: skip

    @case(f"typecast with ties, {source} to {target}")
    def typecast(ttnn: Any, put: Any, source: str = source, target: str = target) -> dict[str, Any]:
        nine_bits = torch.randint(256, 512, (1, 1, 64, 512)) * torch.exp2(torch.randint(-3, 4, (1, 1, 64, 512)).float())
        return {"y": ttnn.typecast(put(nine_bits * torch.randn(1, 1, 64, 512).sign(), source), getattr(ttnn, target))}


# Norms, rotary embeddings, reductions ---------------------------------------------------------------------------------


for name in ("rms_norm", "layer_norm"):

    @case(name, 3e-3)
    def norm(ttnn: Any, put: Any, name: str = name) -> dict[str, Any]:
        x, w = put(torch.randn(1, 1, 64, 512)), put(1 + 0.1 * torch.randn(1, 1, 16, 32), layout="ROW_MAJOR")
        return {"y": getattr(ttnn, name)(x, epsilon=1e-6, weight=w, compute_kernel_config=compute(ttnn, "HiFi4"))}


@case("rms_norm without a compute configuration", 6e-3)
def norm_default(ttnn: Any, put: Any) -> dict[str, Any]:
    x, w = put(torch.randn(1, 1, 64, 512)), put(1 + 0.1 * torch.randn(1, 1, 16, 32), layout="ROW_MAJOR")
    return {"y": ttnn.rms_norm(x, epsilon=1e-6, weight=w)}


@case("rotary_embedding_hf, prefill", 5e-3)
def rotary(ttnn: Any, put: Any) -> dict[str, Any]:
    angle = torch.arange(64.0)[:, None] / (10000 ** (torch.arange(0, 64, 2) / 64)).repeat(2)
    x, cos, sin = put(torch.randn(1, 4, 64, 64)), put(angle.cos()[None, None]), put(angle.sin()[None, None])
    return {"y": ttnn.experimental.rotary_embedding_hf(x, cos, sin)}


@case("sum, mean, max of rows", 2e-3)
def reductions(ttnn: Any, put: Any) -> dict[str, Any]:
    x = put(torch.randn(1, 1, 64, 512))
    return {name: getattr(ttnn, name)(x, dim=-1, keepdim=True) for name in ("sum", "mean", "max")}


@case("softmax", 3e-3)
def softmax(ttnn: Any, put: Any) -> dict[str, Any]:
    return {"y": ttnn.softmax(put(torch.randn(1, 1, 64, 128)), dim=-1, compute_kernel_config=compute(ttnn, "HiFi4"))}


@case("topk and argmax")
def choices(ttnn: Any, put: Any) -> dict[str, Any]:
    x = torch.stack([torch.randperm(512) - 256 for _ in range(32)])[None, None].float() / 4  # no two are equal
    values, places = ttnn.topk(put(x), 32)
    return {"values": values, "places": places, "best": ttnn.argmax(put(x, layout="ROW_MAJOR"), dim=3, keepdim=True)}


# Movement -------------------------------------------------------------------------------------------------------------


@case("embedding")
def embedding(ttnn: Any, put: Any) -> dict[str, Any]:
    ids = put(torch.randint(0, 128, (1, 32)), "uint32", "ROW_MAJOR")
    return {"y": ttnn.embedding(ids, put(torch.randn(128, 64), layout="ROW_MAJOR"), layout=ttnn.TILE_LAYOUT)}


@case("nlp_create_qkv_heads, nlp_concat_heads")
def heads(ttnn: Any, put: Any) -> dict[str, Any]:
    x = put(torch.randn(1, 1, 64, 8 * 64))
    q, k, v = ttnn.experimental.nlp_create_qkv_heads(x, num_heads=4, num_kv_heads=2, transpose_k_heads=False)
    return {"q": q, "k": k, "v": v, "joined": ttnn.experimental.nlp_concat_heads(q)}


def on_cores(ttnn: Any, put: Any, users: int, width: int) -> Any:
    """A tile row on each of `users` cores."""
    grid = ttnn.num_cores_to_corerangeset(users, put.device.compute_with_storage_grid_size(), True)
    kind, order = ttnn.ShardStrategy.HEIGHT, ttnn.ShardOrientation.ROW_MAJOR
    return ttnn.create_sharded_memory_config((32, width), grid, kind, order, use_height_and_width_as_shard_shape=True)


for cache_type in ("bfloat16", "bfloat8_b"):

    @case(f"paged_fill_cache, paged_update_cache, {cache_type}")
    def caches(ttnn: Any, put: Any, cache_type: str = cache_type) -> dict[str, Any]:
        cache, table = (
            put(torch.zeros(8, 2, 64, 64), cache_type),
            put(torch.randperm(8).reshape(4, 2), "int32", "ROW_MAJOR"),
        )
        ttnn.experimental.paged_fill_cache(cache, put(torch.randn(1, 2, 64, 64), cache_type), table, batch_idx=1)
        x = ttnn.to_memory_config(put(torch.randn(1, 4, 2, 64)), on_cores(ttnn, put, 4, 64))
        positions = put(torch.tensor([0, 64, 33, -1]), "int32", "ROW_MAJOR")
        ttnn.experimental.paged_update_cache(cache, x, update_idxs_tensor=positions, page_table=table)
        return {"cache": cache}


# Attention ------------------------------------------------------------------------------------------------------------


def attention_inputs(
    put: Any, heads: int, kv: int, dim: int, users: int, kind: str, scale: float = 1.0
) -> tuple[Any, ...]:
    keys, values = (put(torch.randn(users * 4, kv, 64, dim) * s, kind) for s in (scale, 1.0))
    return keys, values, put(torch.randperm(users * 4).reshape(users, 4), "int32", "ROW_MAJOR")


def program(ttnn: Any, exact: bool) -> Any:
    return ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(8, 8), q_chunk_size=64, k_chunk_size=128, exp_approx_mode=not exact
    )


def decode_case(name: str, kind: str, fidelity: str, exact: bool | None, rms: float, scale: float = 1.0) -> None:
    @case(f"paged decode attention, {name}", rms)
    def run(ttnn: Any, put: Any) -> dict[str, Any]:
        keys, values, table = attention_inputs(put, 8, 2, 64, 8, kind, scale)
        positions = put(torch.randint(20, 256, (8,)), "int32", "ROW_MAJOR")
        how = {} if exact is None else {"program_config": program(ttnn, exact)}
        how |= {"compute_kernel_config": compute(ttnn, fidelity)} if fidelity else {}
        q = put(torch.randn(1, 8, 8, 64))
        return {
            "y": ttnn.transformer.paged_scaled_dot_product_attention_decode(
                q, keys, values, table, cur_pos_tensor=positions, scale=0.125, **how
            )
        }


decode_case("HiFi4, exponential of the defaults", "bfloat16", "HiFi4", None, 2e-2)
decode_case("HiFi4, exact exponential", "bfloat16", "HiFi4", True, 6e-3)
decode_case("HiFi3, exact exponential, bfloat8_b caches", "bfloat8_b", "HiFi3", True, 6e-3)
decode_case("HiFi3, exact exponential, keys x 8", "bfloat16", "HiFi3", True, 1.2e-2, 8.0)
decode_case("no configuration", "bfloat16", "", None, 2e-2)


@case("chunked prefill attention, HiFi4", 5e-3)
def chunked(ttnn: Any, put: Any) -> dict[str, Any]:
    keys, values, table = attention_inputs(put, 4, 2, 64, 1, "bfloat16")
    return {
        "y": ttnn.transformer.chunked_scaled_dot_product_attention(
            put(torch.randn(1, 4, 128, 64)), keys, values, table, 128, scale=0.125,
            program_config=program(ttnn, True), compute_kernel_config=compute(ttnn, "HiFi4"),
        )
    }  # fmt: skip


@case("prefill attention, HiFi3", 5e-3)
def prefill(ttnn: Any, put: Any) -> dict[str, Any]:
    q, k, v = (put(torch.randn(1, h, 128, 64)) for h in (4, 2, 2))
    how = {"program_config": program(ttnn, True), "compute_kernel_config": compute(ttnn, "HiFi3")}
    return {"y": ttnn.transformer.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.125, **how)}


# Running and comparing ------------------------------------------------------------------------------------------------


class Put:
    """Places a torch tensor on the device."""

    def __init__(self, ttnn: Any, device: Any) -> None:
        self.ttnn, self.device = ttnn, device

    def __call__(self, value: torch.Tensor, dtype: str = "bfloat16", layout: str = "TILE") -> Any:
        ttnn = self.ttnn
        value = value.bfloat16() if dtype == "bfloat16" else value.int() if "int" in dtype else value
        where = {"device": self.device, "memory_config": ttnn.DRAM_MEMORY_CONFIG}
        return ttnn.from_torch(value, dtype=getattr(ttnn, dtype), layout=getattr(ttnn, f"{layout}_LAYOUT"), **where)


def results(
    device: Any, known: dict[str, Any], selected: str
) -> Iterator[tuple[str, dict[str, tuple[str, torch.Tensor]]]]:
    """Of each case that is not `known`: {result: (ttnn type, numbers)}."""
    import ttnn

    for case in CASES:
        if case.name in known or selected not in case.name:
            continue
        torch.manual_seed(zlib.crc32(case.name.encode()))
        found = case.run(ttnn, Put(ttnn, device))
        yield case.name, {name: (t.dtype.name, ttnn.to_torch(t)) for name, t in found.items()}


def run_kernels(path: Path, selected: str, where: str) -> None:
    """The kernels' results, added to those in the file. `where`: the card or simulator, for the page."""
    import ttnn

    known = torch.load(path) if path.exists() else {}
    known[VERSIONS] = f"ttnn {importlib.metadata.version('ttnn')} on {where}"
    torch.save(known, path)
    device = ttnn.open_device(device_id=0)
    try:
        for name, found in results(device, known, selected):
            known[name] = found
            torch.save(known, path)
            print(name, flush=True)
    finally:
        ttnn.close_device(device)


def run_emulator(path: Path) -> None:
    """The emulator's results."""
    from fx2ttnn.emulate import emulated_mesh

    with emulated_mesh(target="n150") as device:
        torch.save(dict(results(device, {}, "")), path)


@dataclass(frozen=True)
class Difference:
    """Share of equal numbers, the largest difference in units of the last place, and the relative rms difference."""

    equal: float
    ulp: float
    rms: float

    def __str__(self) -> str:
        share = "100 %" if self.equal == 1 else f"{min(self.equal, 0.9999):.2%}"
        return f"{share} | {self.ulp:.3g} | {self.rms:.1e}" if self.rms else f"{share} | 0 | 0"

    @staticmethod
    def of(kernels: dict[str, Any], emulator: dict[str, Any]) -> Difference:
        parts = [Difference.of_one(kernels[n][0], kernels[n][1], emulator[n][1]) for n in kernels]
        return Difference(
            sum(p.equal for p in parts) / len(parts), max(p.ulp for p in parts), max(p.rms for p in parts)
        )

    @staticmethod
    def of_one(dtype: str, kernels: torch.Tensor, emulator: torch.Tensor) -> Difference:
        k, e = kernels.double(), emulator.double()
        rms = k.square().mean().sqrt()
        # Where terms cancel, the last place of a number as big as the tensor's rms counts.
        size = torch.maximum(torch.maximum(k.abs(), e.abs()), rms)
        if dtype in ("BFLOAT8_B", "BFLOAT4_B"):
            size = size.unflatten(-1, (-1, 16)).amax(-1, keepdim=True).expand(*k.shape[:-1], -1, 16).flatten(-2)
        bits = {"BFLOAT16": 7, "BFLOAT8_B": 6, "BFLOAT4_B": 2, "FLOAT32": 23}.get(dtype)
        step = torch.ones_like(k) if bits is None else torch.exp2(size.log2().floor() - bits)
        off = k - e
        relative = (off.square().mean().sqrt() / rms).item() if rms > 0 else 0.0
        return Difference((k == e).double().mean().item(), (off.abs() / step).max().item(), relative)


def emulated(rounding: str) -> dict[str, Any]:
    """The results of an emulator process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.pt"
        environment = environment_with(rounding)
        subprocess.run([sys.executable, __file__, "--emulator", str(path)], check=True, env=environment)
        return torch.load(path)


def environment_with(rounding: str) -> dict[str, str]:
    """This process's, for an emulator that computes so."""
    hidden = (
        "TT_METAL_SIMULATOR",
        "TT_METAL_RUNTIME_ROOT",
        "TT_METAL_SLOW_DISPATCH_MODE",
    )  # the emulator's mock has its own
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"FX2TTNN_EMULATOR_NUMBERS": rounding}


def compare(path: Path, page: Path | None) -> bool:
    """Whether all cases keep their bounds; with a `page`, writes it."""
    kernels, now, before = torch.load(path), emulated("device"), emulated("plain")
    rows, equal, kept = [], [], True
    for case in CASES:
        if case.name not in kernels:
            print(f"{case.name}: the kernels did not run")
            kept = False
            continue
        found, was = (Difference.of(kernels[case.name], side[case.name]) for side in (now, before))
        inside = found.rms <= case.rms
        kept &= inside
        equal += [case.name] if found.equal == 1 else []
        rows.append(f"| {case.name} | {found} | {case.rms or 'equal'} | {was} |")
        print(rows[-1] + ("" if inside else "  <-- beyond its bound"))
    if page is not None:
        page.write_text(TEXT.format(versions=kernels[VERSIONS], rows="\n".join(rows), equal="; ".join(equal)))
    return kept


TEXT = """# How near the emulator is to the vendor's kernels

What was compared: {versions}, one Wormhole chip, against fx2ttnn's emulator, which has no kernels; both ran the same lines of ttnn on
the same random inputs. Made by [`benchmarks/fidelity.py`](../benchmarks/fidelity.py), which says how to repeat it; it fails when a
case is further off than its bound. The simulator shows the numbers of a chip, not its speed. It ran with
TT_METAL_DISABLE_SFPLOADMACRO=1, and without the dummy unpack in Wormhole's low-level kernels (a workaround for hardware bug TEN-3868), which it refuses.

- **equal**: share of results with the same bits. **ULP**: the largest difference in units of the last place (of bfloat8_b: in
  steps of the block); where terms cancel, of a number as large as the tensor's rms. **rms**: rms of the differences
  over rms of the results. **bound**: of the rms.
- **before**: computed in float32 and rounded once, to even, as on the host: `FX2TTNN_EMULATOR_NUMBERS=plain` still does so.

| operation | equal | ULP | rms | bound | before: equal | ULP | rms |
|---|---|---|---|---|---|---|---|
{rows}

**Bit-equal:** {equal}.

## What the emulator does

| fact of the kernels | emulated |
|---|---|
| packers round ties away from zero | yes |
| a block float is rounded to 7 bits, then to the shared exponent; by typecast to bfloat8_b only once; bfloat4_b is 7 bits, the last 4 cut off | yes |
| typecast of float32 to bfloat16, and the product of two bfloat16 tensors, round to even | yes |
| add and subtract align both operands to 11 bits before they add; a product with a bfloat8_b operand is the sum of passes, each rounded to bfloat16 | yes |
| a fused activation goes through the operand's type | yes |
| math fidelity: LoFi sees 7 bits of activations and 5 of weights, HiFi2 7 and 8, HiFi3 and HiFi4 all but what bfloat16 never has; results are smaller by up to 2 % | yes; what HiFi3 leaves out (the last bits of both) is not |
| without fp32_dest_acc_en each 16 products are added to a bfloat16 sum, blocks of k on top of it; ttnn's default for linear (HiFi2) | nearly: products are not aligned within a group of 8 |
| with fp32_dest_acc_en: the same alignment, on the way to a float32 sum | no: this is what is left of linear's difference |
| decode attention: scores and weights in bfloat16, a fast exponential for up to 16 heads whatever `exp_approx_mode` says | yes with a `k_chunk_size`; without a program config only half of the difference is explained |
| rotary embeddings, norms, softmax, reductions, sigmoid and exp of the vector unit | rounded as packed, else exact |
| HiFi4 with fp32_dest_acc_en: an error of Wormhole's matrix unit in one element of a million | no; use HiFi3 |
| sums over chips are rounded at each hop, in another order for each part | with `FX2TTNN_EMULATOR_COLLECTIVES=hops` (not compared here: one chip) |
| random numbers | other numbers of the same distribution, a generator for each user |
| rows of idle users (position -1) after decode attention, and rows behind the users of nlp_concat_heads_decode, are not written | yes: not a number |
"""


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", type=Path, help="run the kernels and add their results to this file")
    parser.add_argument("--compare", type=Path, help="the kernels' results, to compare the emulator with")
    parser.add_argument("--emulator", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="run the kernels of the cases whose name holds this")
    parser.add_argument("--on", default="a card", help="what the kernels run on, for the page")
    parser.add_argument("--no-page", action="store_true", help="print only")
    given = parser.parse_args()
    if given.kernels:
        run_kernels(given.kernels, given.only, given.on)
    if given.emulator:
        run_emulator(given.emulator)
    if given.compare and not compare(given.compare, None if given.no_page else PAGE):
        sys.exit("a case is further off than its bound")


if __name__ == "__main__":
    main()
