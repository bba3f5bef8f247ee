"""Float32 arithmetic with weights that stay bfloat16 numbers: a model is held once, in half the memory."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
BLOCK = 1 << 22  # elements of a weight that are float32 at once


class Float32(TorchDispatchMode):
    """While it is on, every operation computes in float32, even where a model asks for bfloat16: only parameters and views of them are that."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation.is_view:
            return operation(*args, **kwargs)
        if operation is aten.embedding.default:  # of the rows that are read, not of the whole table
            return operation(*args, **kwargs).float()
        if operation in (aten.mm.default, aten.addmm.default) and args[-1].dtype == torch.bfloat16 and not kwargs:
            *bias, a, weight = args
            return sum(bias, product(a, weight))
        return operation(*tree_map(widened, args), **tree_map(widened, kwargs))


def product(a, b):
    """a [m, k] x b [k, n], some columns of b at a time; nothing else is kept between them, so each takes the memory of the last."""
    out, columns = torch.empty(len(a), b.shape[1]), max(1, BLOCK // len(b))
    for part, place in zip(b.split(columns, dim=1), out.split(columns, dim=1)):
        place.copy_(a.float() @ part.float())
    return out


def widened(leaf):
    """A bfloat16 tensor in float32, float32 in place of that type; anything else as it is."""
    if leaf is torch.bfloat16:
        return torch.float32
    return leaf.float() if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bfloat16 else leaf
