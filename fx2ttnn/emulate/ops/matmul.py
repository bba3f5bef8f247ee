"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.emulate import rounding
from fx2ttnn.emulate.chips import LEAD, align, common_chips, on_chips
from fx2ttnn.emulate.matrix_unit import Compute, bfloat16_product
from fx2ttnn.emulate.ops.elementwise import activate, of_vector_unit
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import pack
from fx2ttnn.emulate.tensor import EmulationError, Numbers

DEFAULT = Compute(passes=2, fp32=False)  # without a compute_kernel_config, where no operand and no result is float32
DEFAULT_FLOAT32 = Compute(passes=4, fp32=True)
# Elements of a weight that are float32 at once: of blocks this small, each takes the memory of the last.
_BLOCK = 1 << 22
TILE = 32


@emulates("ttnn.linear", "ttnn.matmul", raw=True)
def linear(
    input_tensor_a: Numbers,
    input_tensor_b: Numbers,
    *,
    bias: Numbers | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    activation: Any = None,
    program_config: Any = None,
    compute_kernel_config: Any = None,
    real: Any,
) -> torch.Tensor:
    """[.., m, k] x [.., k, n] -> [.., m, n]."""
    _check_ring(program_config, input_tensor_b.spec.memory_config, real.memory_config)
    a, b = align(input_tensor_a.value, input_tensor_b.value)
    fused = getattr(program_config, "fused_activation", None)
    float32 = "FLOAT32" in (input_tensor_a.dtype, input_tensor_b.dtype, real.dtype.name)
    compute = Compute.of(compute_kernel_config, DEFAULT_FLOAT32 if float32 else DEFAULT)
    out = product(a.mT if transpose_a else a, b.mT if transpose_b else b, compute, _depth(a, program_config))
    if bias is not None:
        out, add = align(out, bias.value)
        out = out + add
    if fused is not None:
        return activate(out, fused)
    if activation is None or rounding.PLAIN:
        return activate(out, activation)
    # An operation of its own, on what the product has stored.
    return of_vector_unit(activate(pack(out, real.dtype.name).float(), activation), {real.dtype.name})


def _check_ring(program_config: Any, weight: Any, result: Any) -> None:
    """On a ring each core has the columns of the weight that it holds: ttnn takes a result on other cores, which is then wrong."""
    if not getattr(program_config, "gather_in0", False) or weight.buffer_type.name != "L1":
        return
    if result.shard_spec is None or result.shard_spec.grid != weight.shard_spec.grid:
        raise EmulationError("a matmul on a ring leaves its result where the weight lies, and is asked to elsewhere")


@emulates("ttnn.dram_prefetcher", raw=True)
def dram_prefetcher(tensors: list[Numbers], num_layers: int, *, real: Any) -> torch.Tensor:
    """Streams weights, and gives a tensor that means nothing; sub_devices.py sees to their order."""
    return torch.zeros(1, 1, *real.shape)


@emulates("ttnn.sparse_matmul")
def sparse_matmul(
    input_tensor_a: torch.Tensor,
    input_tensor_b: torch.Tensor,
    *,
    sparsity: torch.Tensor,
    nnz: int | None = None,
    is_input_a_sparse: bool = False,
    is_input_b_sparse: bool = True,
    compute_kernel_config: Any = None,
    program_config: Any = None,
    real: Any,
) -> torch.Tensor:
    """Products by the groups of b [1, E, K, N] for which `sparsity` is not zero; zeros elsewhere.

    a [.., E, M, K] -> [.., E, M, N]; where only b is sparse, a [A, B, M, K] -> [A, B, 1, E, M, N].
    """
    a = input_tensor_a if is_input_a_sparse else input_tensor_a[:, :, :, :, None, None]
    active = (sparsity != 0).reshape(*sparsity.shape[:LEAD], *list(real.shape)[:-2])
    if nnz is not None and (active.flatten(LEAD).sum(-1) != nnz).any():
        raise EmulationError(
            f"ttnn.sparse_matmul: nnz is {nnz}, not the number of nonzeros in `sparsity`: a card hangs"
        )
    compute = Compute.of(compute_kernel_config, DEFAULT_FLOAT32 if real.dtype.name == "FLOAT32" else DEFAULT)
    out = torch.zeros(*common_chips(a, input_tensor_b, active), *real.shape)
    for group in active.flatten(0, -2).any(0).nonzero().flatten().tolist():
        x = a[..., group if is_input_a_sparse else 0, :, :]
        found = product(x, input_tensor_b[:, :, :, group], compute, _depth(x, program_config))
        out[..., group, :, :] = torch.where(active[..., group, None, None], found, 0)
    return out


def _depth(a: torch.Tensor, program_config: Any) -> int:
    """How much of k is one block: what the program says, else two tiles where there are two."""
    return TILE * getattr(program_config, "in0_block_w", 1 if a.shape[-1] % (2 * TILE) else 2)


def product(a: torch.Tensor, b: torch.Tensor, compute: Compute, depth: int = 2 * TILE) -> torch.Tensor:
    """Matrix product of stored values a [r, c, .., m, k] and b [r, c, .., k, n], as float32. `depth`: of a block along k.

    A weight (no batches of its own) is read once: one product for each of its chips, in which all chips of `a` that share it are
    more rows.
    """
    if any(n > 1 for n in b.shape[LEAD:-2]):
        if not compute.fp32:
            return bfloat16_product(a.float(), b.float(), compute.passes, depth)
        return torch.einsum("...mk,...kn->...mn", compute.activations(a.float()), compute.weights(b.float()))
    chips, own = common_chips(a, b), b.shape[:LEAD]
    x = on_chips(a, chips).float().flatten(LEAD, -2)  # [R, C, rows, k]
    x = x.unflatten(1, (own[1], -1)).unflatten(0, (own[0], -1))  # [r, R / r, c, C / c, rows, k]
    folded = x.transpose(1, 2).flatten(2, 4).flatten(0, 1)  # [r * c, more rows, k]
    weight = b.reshape(-1, *b.shape[-2:])
    if compute.fp32:
        step = max(1, _BLOCK * weight.shape[-2] // weight.numel())
        out = torch.zeros(*folded.shape[:2], weight.shape[-1])
        folded = compute.activations(folded)
        for some, block in zip(folded.split(step, dim=-1), weight.split(step, dim=-2), strict=True):
            out.baddbmm_(some, compute.weights(block.float()))
    else:
        out = bfloat16_product(folded, weight.float(), compute.passes, depth)
    out = out.reshape(*own, x.shape[1], x.shape[3], -1, b.shape[-1]).transpose(1, 2)
    return out.reshape(*chips, *a.shape[LEAD:-1], b.shape[-1])
