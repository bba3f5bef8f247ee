"""What each ttnn operation should compute, in plain torch. Values are [rows of the mesh, columns, *shape on a chip];
a size of 1 in front means: the same on all chips of that axis. NaN marks elements that the operation leaves undefined.
Inputs come as bfloat16 or what their type was rounded to; the arithmetic is float32.
"""

import math

import torch
import torch.nn.functional as F

from ... import model_config as cfg


def _along(x, cluster_axis):
    """`x` with the mesh axis written out."""
    sizes = [-1] * x.dim()
    sizes[cluster_axis] = cfg.MESH_SHAPE[cluster_axis]
    return x.expand(*sizes)


def linear(x, weight, bias=None):
    y = x.float() @ weight.float()
    return y if bias is None else y + bias


def embedding(ids, weight):
    chips = torch.broadcast_shapes(ids.shape[:2], weight.shape[:2])
    ids, weight = ids.expand(*chips, *ids.shape[2:]), weight.expand(*chips, *weight.shape[2:])
    rows = [[weight[r, c, 0, 0][ids[r, c].flatten().long()] for c in range(chips[1])] for r in range(chips[0])]
    found = torch.stack([torch.stack(row) for row in rows])
    return found.reshape(*chips, -1, ids.shape[-1], weight.shape[-1])


def reshape(x, shape, padded=None):
    if padded is None:
        return x.reshape(*x.shape[:2], *shape)
    *outer, rows, columns = padded  # as they lie in tiles, of which the rows and columns that fill them hold anything
    missing = math.prod((*outer, rows)) // math.prod(x.shape[2:-2]) - x.shape[-2]
    filled = F.pad(x.float(), (0, columns - x.shape[-1], 0, missing), value=torch.nan)
    return filled.reshape(*x.shape[:2], *padded)[..., : shape[-2], : shape[-1]]


def transpose(x, dim1, dim2):
    return x.transpose(2 + dim1, 2 + dim2)


def to_memory_config(x, memory_config):
    return x


def add(x, y):
    return x.float() + y


def subtract(x, y):
    return x.float() - y


def minimum(x, y):
    return torch.minimum(x.float(), y.float() if isinstance(y, torch.Tensor) else torch.tensor(y))


def gt(x, y):
    return (x > y).float()


def ge(x, y):
    return (x >= y).float()


def lt(x, y):
    return (x < y).float()


def logical_and(x, y):
    return (x != 0) & (y != 0)


def maximum(x, y):
    return torch.maximum(x.float(), y.float())


def abs(x):
    return x.float().abs()


def repeat(x, times):
    return x.repeat(1, 1, *times)


def concat(tensors, dim):
    chips = torch.broadcast_shapes(*(t.shape[:2] for t in tensors))
    return torch.cat([t.expand(*chips, *t.shape[2:]) for t in tensors], dim)


def matmul(x, y, transpose_b=False):
    return x.float() @ (y.mT if transpose_b else y).float()


def multiply(x, y, input_tensor_a_activations=()):
    x = x.float()
    for activation in input_tensor_a_activations:
        x = _activate(x, activation.name.lower())
    return x * y


def _activate(x, name):
    if name == "gelu_tanh":
        return torch.nn.functional.gelu(x, approximate="tanh")
    if name == "exp":
        return x.exp()
    return x * x if name == "square" else getattr(torch.nn.functional, name)(x)


def gelu(x, variant=None):
    return _activate(x.float(), "gelu_tanh" if variant is not None and variant.name == "Tanh" else "gelu")


def silu(x):
    return _activate(x.float(), "silu")


def relu(x):
    return _activate(x.float(), "relu")


def sigmoid(x):
    return _activate(x.float(), "sigmoid")


def tanh(x):
    return _activate(x.float(), "tanh")


def softplus(x):
    return _activate(x.float(), "softplus")


def expm1(x):
    return torch.expm1(x.float())


def square(x):
    return x.float().square()


def _vector(parameter):
    """Weight or bias in rows of one tile width -> one number for each column."""
    return parameter.float().flatten(2)[:, :, None, None, None]


def rms_norm(x, epsilon, weight=None):
    x = x.float()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)
    return x if weight is None else x * _vector(weight)


def layer_norm(x, epsilon, weight=None, bias=None):
    x = torch.nn.functional.layer_norm(x.float(), x.shape[-1:], eps=epsilon)
    x = x if weight is None else x * _vector(weight)
    return x if bias is None else x + _vector(bias)


def layer_norm_pre_all_gather(x):
    moments = torch.full((*x.shape[:-1], 64), torch.nan)
    moments[..., 0], moments[..., 32] = x.float().square().sum(-1), x.float().sum(-1)
    return moments


def layer_norm_post_all_gather(x, moments, epsilon, weight=None, bias=None):
    squares, sums = moments[..., ::64].float(), moments[..., 32::64].float()
    width = x.shape[-1] * squares.shape[-1]
    mean = sums.sum(-1, keepdim=True) / width
    variance = squares.sum(-1, keepdim=True) / width - mean.square()
    x = (x.float() - mean) * torch.rsqrt(variance + epsilon)
    x = x if weight is None else x * _vector(weight)
    return x if bias is None else x + _vector(bias)


def rms_norm_pre_all_gather(x):
    stats = torch.full((*x.shape[:-1], 32), torch.nan)
    stats[..., 0] = x.float().square().sum(-1)
    return stats


def rms_norm_post_all_gather(x, stats, epsilon, weight=None):
    parts = stats[..., ::32]
    mean = parts.float().sum(-1, keepdim=True) / (x.shape[-1] * parts.shape[-1])
    x = x.float() * torch.rsqrt(mean + epsilon)
    return x if weight is None else x * _vector(weight)


def fused_rms_minimal(x, cluster_axis, epsilon, weight, residual_input_tensor=None):
    x = x.float() if residual_input_tensor is None else x.float() + residual_input_tensor.float()
    squares = _along(x.square(), cluster_axis).sum((cluster_axis, -1), keepdim=True)
    normed = x * torch.rsqrt(squares / (x.shape[-1] * cfg.MESH_SHAPE[cluster_axis]) + epsilon) * _vector(weight)
    return normed if residual_input_tensor is None else (normed, x)


def all_reduce(x, cluster_axis):
    return _along(x.float(), cluster_axis).sum(cluster_axis, keepdim=True)


def all_reduce_async(x, cluster_axis):
    return all_reduce(x, cluster_axis)


def all_reduce_create_qkv_heads(x, cluster_axis, batch_offset, num_heads, num_kv_heads, slice_size):
    summed = all_reduce(x, cluster_axis)
    return summed, *nlp_create_qkv_heads_decode(summed, num_heads, num_kv_heads, batch_offset, slice_size)


def reduce_scatter(x, dim, cluster_axis):
    parts = all_reduce(x, cluster_axis).chunk(cfg.MESH_SHAPE[cluster_axis], 2 + dim)
    return torch.cat(parts, cluster_axis)


def all_gather(x, dim, cluster_axis):
    return torch.cat(_along(x, cluster_axis).split(1, cluster_axis), 2 + dim)


def all_gather_async(x, dim, cluster_axis):
    return all_gather(x, dim, cluster_axis)


def mesh_partition(x, dim, cluster_axis):
    return torch.cat(x.chunk(cfg.MESH_SHAPE[cluster_axis], 2 + dim), cluster_axis)


def nlp_create_qkv_heads_decode(qkv, num_heads, num_kv_heads, batch_offset=None, slice_size=None):
    dim = qkv.shape[-1] // (num_heads + 2 * num_kv_heads)
    if batch_offset is not None:
        chips = torch.broadcast_shapes(qkv.shape[:2], batch_offset.shape[:2])
        qkv, first = qkv.expand(*chips, *qkv.shape[2:]), batch_offset.expand(*chips, 1, 1)
        rows = [
            [qkv[r, c, ..., int(first[r, c]) : int(first[r, c]) + slice_size, :] for c in range(chips[1])]
            for r in range(chips[0])
        ]
        qkv = torch.stack([torch.stack(row) for row in rows])
    heads = qkv.unflatten(-1, (-1, dim)).squeeze(2)
    return heads.split([num_heads, num_kv_heads, num_kv_heads], -2)


def nlp_concat_heads_decode(x, num_heads):
    return x[..., :num_heads, :].flatten(-2).unsqueeze(3)[:, :, 0:1].reshape(*x.shape[:2], 1, 1, x.shape[3], -1)


def rotary_embedding_hf(x, cos, sin, is_decode_mode):
    x, cos, sin = x.float(), cos.float(), sin.float()
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def rotary_embedding_llama(x, cos, sin, turn):
    rows = x.shape[-2]
    return _rotated_neighbours(x.float(), cos[..., :rows, :].float(), sin[..., :rows, :].float())


def rotary_embedding_llama_fused_qk(query, key, cos, sin, turns):
    users = query.shape[3]
    rows = cos[..., :1, :].float(), sin[..., :1, :].float()
    return [
        _rotated_neighbours(x.float(), *(t[:, :, :, first : first + users] for t in rows))
        for x, first in ((query, 0), (key, users))
    ]


def dit_fused_distributed_rmsnorm(x, cluster_axis, mesh_device, semaphores, epsilon, weight, rope_cos, rope_sin):
    assert cluster_axis is None
    return _rotated_neighbours(rms_norm(x, epsilon, weight), rope_cos.float(), rope_sin.float())


def _rotated_neighbours(x, cos, sin):
    return x * cos + torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) * sin


def nlp_create_qkv_heads(qkv, num_heads, num_kv_heads, transpose_k_heads):
    assert not transpose_k_heads
    dim = qkv.shape[-1] // (num_heads + 2 * num_kv_heads)
    heads = qkv.unflatten(-1, (-1, dim)).squeeze(2).transpose(-3, -2)
    return [
        part.unsqueeze(2) if part.dim() == 5 else part
        for part in heads.split([num_heads, num_kv_heads, num_kv_heads], -3)
    ]


def nlp_concat_heads(x):
    return x.transpose(-3, -2).flatten(-2).unsqueeze(3)


def slice(x, start, end, slice_dim, num_devices):
    """Rows from the place that the tensor `start` names; of the results on all chips, which agree."""
    assert slice_dim == 2
    first, count = int(start.flatten()[slice_dim]), x.shape[-2] // num_devices
    return x[..., first : first + count, :]


def typecast(x, dtype):
    return x


def tilize(x):
    return x


def untilize(x):
    return x


def to_layout(x, layout):
    return x


def paged_fill_cache(cache, x, page_table, batch_idx):
    chips = torch.broadcast_shapes(cache.shape[:2], x.shape[:2], page_table.shape[:2])
    cache = cache.expand(*chips, *cache.shape[2:]).clone()
    x, pages = (t.expand(*chips, *t.shape[2:]) for t in (x, page_table))
    size = cache.shape[-2]
    for r in range(chips[0]):
        for c in range(chips[1]):
            for number, page in enumerate(pages[r, c, batch_idx].tolist()):
                rows = x[r, c, 0, :, number * size : (number + 1) * size]
                if page >= 0:
                    cache[r, c, page, :, : rows.shape[1]] = rows
    return cache


def _of_chip(x, row, column):
    return x[row % x.shape[0], column % x.shape[1]].float()


def _softmax_with(scores, sink):
    """Softmax of scores [rows, keys]; `sink` [rows] is one more score, of which nothing is wanted."""
    if sink is None:
        return scores.softmax(-1)
    return torch.cat([scores, sink.unsqueeze(-1)], -1).softmax(-1)[:, :-1]


def chunked_scaled_dot_product_attention(
    query,
    key_cache,
    value_cache,
    page_table,
    chunk_start_idx_tensor,
    scale,
    sliding_window_size=None,
    attention_sink=None,
):
    """Each token of the chunk sees the tokens up to itself, of these the last `sliding_window_size`."""
    chips = torch.broadcast_shapes(*(t.shape[:2] for t in (query, key_cache, page_table, chunk_start_idx_tensor)))
    query, key_cache, value_cache, page_table, starts = (
        t.expand(*chips, *t.shape[2:])
        for t in (query.float(), key_cache, value_cache, page_table, chunk_start_idx_tensor)
    )
    count, out = query.shape[-2], torch.empty_like(query)
    for r in range(chips[0]):
        for c in range(chips[1]):
            start = int(starts[r, c].flatten()[0])
            own, other = torch.arange(start, start + count)[:, None], torch.arange(start + count)[None]
            seen = (other <= own) & (other > own - (sliding_window_size or start + count))
            keys, values = (
                cache[r, c, page_table[r, c, 0].long()].transpose(0, 1).flatten(1, 2)[:, : start + count].float()
                for cache in (key_cache, value_cache)
            )
            for head, q in enumerate(query[r, c, 0]):
                kv = head * keys.shape[0] // query.shape[3]
                scores = (q @ keys[kv].T * scale).masked_fill(~seen, -torch.inf)
                sink = (
                    None
                    if attention_sink is None
                    else _of_chip(attention_sink, r, c)[0, head, :, 0].expand(count) * scale
                )
                out[r, c, 0, head] = _softmax_with(scores, sink) @ values[kv]
    return out


def paged_update_cache(cache, x, update_idxs_tensor, page_table):
    chips = torch.broadcast_shapes(cache.shape[:2], x.shape[:2], update_idxs_tensor.shape[:2], page_table.shape[:2])
    cache = cache.expand(*chips, *cache.shape[2:]).clone()
    x, positions, pages = (t.expand(*chips, *t.shape[2:]) for t in (x, update_idxs_tensor, page_table))
    size = cache.shape[-2]
    for r in range(chips[0]):
        for c in range(chips[1]):
            for user, position in enumerate(positions[r, c].tolist()):
                if position >= 0:
                    cache[r, c, pages[r, c, user, position // size], :, position % size] = x[r, c, 0, user]
    return cache


def paged_fused_update_cache(keys, key, values, value, update_idxs_tensor, page_table):
    where = update_idxs_tensor, page_table
    return paged_update_cache(keys, key, *where), paged_update_cache(values, value, *where)


def paged_scaled_dot_product_attention_decode(
    query, key_cache, value_cache, page_table, cur_pos_tensor, scale, sliding_window_size=None, attention_sink=None
):
    chips = torch.broadcast_shapes(*(t.shape[:2] for t in (query, key_cache, page_table, cur_pos_tensor)))
    query, key_cache, value_cache, page_table, positions = (
        t.expand(*chips, *t.shape[2:]) for t in (query.float(), key_cache, value_cache, page_table, cur_pos_tensor)
    )
    out = torch.full_like(query, torch.nan)  # of idle users, at position -1, nothing is asked
    for r in range(chips[0]):
        for c in range(chips[1]):
            for user, position in enumerate(positions[r, c].tolist()):
                if position < 0:
                    continue
                first = max(0, position + 1 - sliding_window_size) if sliding_window_size else 0
                keys, values = (
                    cache[r, c, page_table[r, c, user].long()]
                    .transpose(0, 1)
                    .flatten(1, 2)[:, first : position + 1]
                    .float()
                    for cache in (key_cache, value_cache)
                )
                q = query[r, c, 0, user]
                groups = q.shape[0] // keys.shape[0]
                keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)
                sink = None if attention_sink is None else _of_chip(attention_sink, r, c)[: q.shape[0], 0] * scale
                weights = _softmax_with(torch.einsum("hd,hsd->hs", q, keys) * scale, sink)
                out[r, c, 0, user] = torch.einsum("hs,hsd->hd", weights, values)
    return out


def pad(x, shape, start, value):
    return torch.nn.functional.pad(x.float(), (0, shape[-1] - x.shape[-1]), value=value)


def topk(x, k, dim):
    return x.topk(k, dim)


def sampling(values, tokens, k, p, inverse_temperature):
    """The best token of each user: what is drawn with k = 1."""
    assert k.eq(1).all()
    chips = torch.broadcast_shapes(values.shape[:2], tokens.shape[:2])
    values, tokens = values.expand(*chips, *values.shape[2:]), tokens.expand(*chips, *tokens.shape[2:])
    return tokens.gather(-1, values.argmax(-1, keepdim=True)).transpose(-1, -2)


def softmax(x, dim):
    return torch.softmax(x.float(), dim)


def sum(x, dim, keepdim):
    return x.float().sum(dim, keepdim=keepdim)


def div(x, y):
    return x.float() / y


def clamp(x, min=None, max=None):
    return x.float().clamp(min, max)


def scatter(x, dim, index, source):
    chips = torch.broadcast_shapes(x.shape[:2], index.shape[:2], source.shape[:2])
    x, index, source = (t.expand(*chips, *t.shape[2:]) for t in (x, index, source))
    return x.scatter(dim, index.long(), source)


def gather(x, dim, index):
    chips = torch.broadcast_shapes(x.shape[:2], index.shape[:2])
    return x.expand(*chips, *x.shape[2:]).gather(dim, index.expand(*chips, *index.shape[2:]).long())


def eq(x, y):
    return (x == y).float()


def where(condition, x, other):
    return torch.where(condition != 0, *(t if isinstance(t, float) else t.float() for t in (x, other)))


def compute(function, *args, operands, result, **named):
    """The whole values of the operands, `function`, and each chip's part of what comes out."""
    args = list(args)
    for place, order, mesh_dims in operands:
        args[place] = _logical(args[place].float(), order, mesh_dims)
    order, mesh_dims = result
    value = function(*args, **named)
    value = value.permute([d for d in order if d is not None]).reshape(
        [1 if d is None else value.shape[d] for d in order]
    )
    for axis, (dim, size) in enumerate(zip(mesh_dims, cfg.MESH_SHAPE)):
        value = value.unsqueeze(axis) if dim is None else torch.stack(value.chunk(size, axis + dim), axis)
    return value


def _logical(x, order, mesh_dims):
    """Chips' parts [rows of the mesh, columns, *shape] -> the whole value, in the model's dims."""
    for axis in (1, 0):
        parts = x.unbind(axis)
        x = parts[0] if mesh_dims[axis] is None else torch.cat(parts, axis + mesh_dims[axis])
    x = x.reshape([size for size, d in zip(x.shape, order) if d is not None])
    kept = [d for d in order if d is not None]
    return x.permute([kept.index(d) for d in sorted(kept)])
