"""What each ttnn operation should compute, in plain torch. Values are [rows of the mesh, columns, *shape on a chip];
a size of 1 in front means: the same on all chips of that axis. NaN marks elements that the operation leaves undefined.
Inputs come as bfloat16 or what their type was rounded to; the arithmetic is float32.
"""

import torch

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
    return torch.stack([torch.stack(row) for row in rows]).unsqueeze(2)


def reshape(x, shape):
    return x.reshape(*x.shape[:2], *shape)


def to_memory_config(x, memory_config):
    return x


def add(x, y):
    return x.float() + y.float()


def multiply(x, y, input_tensor_a_activations=()):
    x, y = x.float(), y.float()
    for activation in input_tensor_a_activations:
        x = getattr(torch.nn.functional, activation.name.lower())(x)
    return x * y


def rms_norm(x, epsilon, weight):
    x = x.float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)
    return x * scale * weight.float().flatten(2)[:, :, None, None, None]


def rms_norm_pre_all_gather(x):
    stats = torch.full((*x.shape[:-1], 32), torch.nan)
    stats[..., 0] = x.float().square().sum(-1)
    return stats


def rms_norm_post_all_gather(x, stats, epsilon, weight):
    parts = stats[..., ::32]
    mean = parts.float().sum(-1, keepdim=True) / (x.shape[-1] * parts.shape[-1])
    return x.float() * torch.rsqrt(mean + epsilon) * weight.float().flatten(2)[:, :, None, None, None]


def all_reduce(x, cluster_axis):
    return _along(x.float(), cluster_axis).sum(cluster_axis, keepdim=True)


def reduce_scatter(x, dim, cluster_axis):
    parts = all_reduce(x, cluster_axis).chunk(cfg.MESH_SHAPE[cluster_axis], 2 + dim)
    return torch.cat(parts, cluster_axis)


def all_gather(x, dim, cluster_axis):
    return torch.cat(_along(x, cluster_axis).split(1, cluster_axis), 2 + dim)


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
    assert is_decode_mode
    x, cos, sin = x.float(), cos.float(), sin.float()
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


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


def paged_scaled_dot_product_attention_decode(
    query, key_cache, value_cache, page_table, cur_pos_tensor, scale, sliding_window_size=None
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
                weights = torch.softmax(torch.einsum("hd,hsd->hs", q, keys) * scale, -1)
                out[r, c, 0, user] = torch.einsum("hs,hsd->hd", weights, values)
    return out
