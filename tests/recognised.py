"""What each recognised operation computes, in torch, for the interpreter; and whether a graph computes what its model computes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from tiny import random_model

from fx2ttnn.capture import capture_decode, interpret
from fx2ttnn.capture.trace import cache_argument
from fx2ttnn.ir import Graph
from fx2ttnn.recognise import recognise
from fx2ttnn.recognise.rotary import columns


def _selected(tensor, rows=None, order=None):
    """Some rows of each group, heads in another order: how a weight is loaded."""
    if rows is not None:
        start, stop, groups = rows
        size = len(tensor) // groups
        tensor = torch.cat([tensor[group * size :][start:stop] for group in range(groups)])
    if order is not None:
        start, stop = order[4] if len(order) > 4 else (0, order[0])
        before, behind = (
            torch.zeros_like(tensor[:1]).expand(n, *tensor.shape[1:]) for n in (start, order[0] + 1 - stop)
        )
        heads = [torch.cat([before, head, behind]) for head in tensor.split(stop - start)]
        tensor = torch.cat([head[column][None] for head in heads for column in columns(order)])
    return tensor


def _of_experts(tensor, side):
    """Weights of experts as one matrix, experts side by side along its outputs or its inputs; biases likewise."""
    one_each = list(tensor)
    return torch.cat(one_each) if side == "outputs" else torch.stack(one_each, dim=1).flatten(1)


def _linear(run, op, args):
    x, weights, *biases = args
    order = op.attrs.get("input_order")
    groups = [list(group) if isinstance(group, list) else [group] for group in (weights, *biases)]
    if op.attrs.get("transposed"):
        groups[0] = [weight.mT for weight in groups[0]]
    if side := op.attrs.get("experts"):
        groups = [[_of_experts(tensor, side) for tensor in group] for group in groups]
    if order:
        groups[0] = [_selected(weight.T, None, order).T for weight in groups[0]]
    rows, orders = (op.attrs.get(key, (None,) * len(groups[0])) for key in ("rows", "orders"))
    return F.linear(x, *(torch.cat([_selected(*s) for s in zip(g, rows, orders, strict=True)]) for g in groups))


def _heads(x, heads, dim):
    return x.reshape(*x.shape[:2], heads, dim).transpose(1, 2)


def _multiply_heads(run, op, args):
    weight = torch.stack(args[1]) if isinstance(args[1], list) else args[1]
    return args[0] * _selected(weight.T, None, op.attrs.get("order")).T.unsqueeze(1)


def _create_qkv_heads(run, op, args):
    heads, kv, dim = op.attrs["heads"], op.attrs["kv_heads"], op.attrs["head_dim"]
    parts = args[0].split([heads * dim, kv * dim, kv * dim], dim=-1)
    return tuple(_heads(part, n, dim) for part, n in zip(parts, (heads, kv, kv), strict=True))


def _rotary(run, op, args):
    assert not op.attrs
    x, cos, sin = args[0], args[1].unsqueeze(1), args[2].unsqueeze(1)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _vectors(op, args):
    """Weight and bias of a norm; the mean of its squares also counts zeros behind the heads."""
    order = op.attrs.get("order")
    share = order[0] / order[3] if order else 1
    weight, *bias = (_selected(vector, None, order) for vector in args[1:])
    return (weight + op.attrs.get("offset", 0)) * share**0.5, *bias


def _rms_norm(run, op, args):
    (weight,) = _vectors(op, args) if len(args) > 1 else (None,)
    return F.rms_norm(args[0], args[0].shape[-1:], weight, op.attrs["eps"])


def _layer_norm(run, op, args):
    weight, *bias = _vectors(op, args) if len(args) > 1 else (None,)
    return F.layer_norm(args[0], args[0].shape[-1:], weight, *(bias or [None]), op.attrs["eps"])


def _position_table(run, op, args):
    return interpret.run(op.attrs["table"], {"position_ids": args[0], "last_position": args[0].max()}, {})[0]


def _add_slopes(run, op, args):
    """Two parts of 8 bits for each digit of keys, and three of 4 bits for each of queries, in every head; their sum is the slope."""
    x, column = args[0].clone(), op.attrs["first"]
    for digits, bits, parts in zip(op.attrs["digits"], (8, 4), (2, 3), strict=True):
        for _ in range(digits):
            left = [slope / op.attrs["scaling"] for slope in op.attrs["slopes"]]
            for _ in range(parts):
                rounded = [_to_bits(s, bits) for s in left]
                x[:, :, :, column] += torch.tensor(rounded)[:, None]
                left = [a - b for a, b in zip(left, rounded, strict=True)]
                column += 1
    return x


def _to_bits(number, bits):
    step = 2.0 ** (math.floor(math.log2(abs(number))) + 1 - bits) if number else 1.0
    return round(number / step) * step


def _normalise(run, op, args):
    total = args[0].sum(-1, keepdim=True) + op.attrs.get("eps", 0)
    return args[0] / total.clamp(min=op.attrs.get("floor", -torch.inf))


def _keep_groups(run, op, args):
    """Scores [B, S, E]: those of all groups but the best `kept` become `fill`."""
    groups = args[0].unflatten(-1, (op.attrs["groups"], -1))
    best = groups.topk(op.attrs["best"]).values.sum(-1).topk(op.attrs["kept"]).indices
    kept = torch.zeros(groups.shape[:-1], dtype=torch.bool).scatter(-1, best, True).unsqueeze(-1)
    return torch.where(kept, groups, torch.tensor(op.attrs["fill"])).flatten(-2)


def _spread(run, op, args):
    """Index and weights [B, S, K] -> the weight of each expert, zero where it is not chosen."""
    return torch.zeros(*args[0].shape[:-1], op.attrs["experts"]).scatter(-1, args[0], args[1])


def _weigh(run, op, args):
    experts = args[0].unflatten(-1, (op.attrs["experts"], -1))
    return (experts * args[1].unsqueeze(-1)).flatten(-2)


def _gated(run, op, args):
    gate, up = args
    if op.attrs["activation"] == "clamped_swiglu":
        gate, up = gate.clamp(max=op.attrs["limit"]), up.clamp(-op.attrs["limit"], op.attrs["limit"])
        return gate * torch.sigmoid(op.attrs["alpha"] * gate) * (up + 1)
    return ACTIVATIONS[op.attrs["activation"]](gate) * up


def _xielu(x, steep, bent, slope, least):
    curve = torch.where(x > 0, F.softplus(steep) * x**2, (slope + F.softplus(bent)) * (x.minimum(least).expm1() - x))
    return curve + slope * x


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x) ** 2,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "xielu": _xielu,
}
RECOGNISED = {
    "linear": _linear,
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "multiply_heads": _multiply_heads,
    "rotary": _rotary,
    "add_slopes": _add_slopes,
    "scale_positions": lambda run, op, args: args[0] * args[1].unsqueeze(1),
    "activation": lambda run, op, args: ACTIVATIONS[op.attrs["function"]](*args),
    "gated": _gated,
    "router": lambda run, op, args: F.linear(*args),
    "topk": lambda run, op, args: args[0].topk(op.attrs["chosen"]),
    "softmax": lambda run, op, args: args[0].softmax(-1),
    "gather": lambda run, op, args: args[0].gather(-1, args[1]),
    "normalise": _normalise,
    "keep_groups": _keep_groups,
    "keep_near": lambda run, op, args: torch.where(
        (args[2] - args[1]) / args[1].abs().maximum(args[2]) > op.attrs["bound"], op.attrs["fill"], args[0]
    ),
    "leave_out": lambda run, op, args: args[0].scatter(-1, args[1], op.attrs["fill"]),
    "concat": lambda run, op, args: torch.cat(args, -1),
    "multiply_chosen": lambda run, op, args: args[0] * args[2][args[1]],
    "weigh_heads": lambda run, op, args: (
        args[0].unflatten(-1, (op.attrs["heads"], -1)) * args[1].unsqueeze(-1)
    ).flatten(-2),
    "multiply_vector": lambda run, op, args: args[0] * args[1].flatten(),
    "add_vector": lambda run, op, args: args[0] + args[1].flatten(),
    "spread": _spread,
    "weigh": _weigh,
    "weigh_both": lambda run, op, args: tuple(_weigh(run, op, [x, args[2]]) for x in args[:2]),
    "scale": lambda run, op, args: args[0] * op.attrs["factor"],
    "add": lambda run, op, args: args[0] + args[1],
    "split_heads": lambda run, op, args: _heads(args[0], op.attrs["heads"], op.attrs["head_dim"]),
    "concat_heads": lambda run, op, args: args[0].flatten(2),
    "create_qkv_heads": _create_qkv_heads,
    "embedding": lambda run, op, args: F.embedding(args[0], _selected(args[1], op.attrs.get("rows"))),
    "position_table": _position_table,
}


def assert_equals_model(config, monkeypatch, model_class=None) -> Graph:
    """The recognised graph of a decode step gives Hugging Face's logits for several steps through the cache.

    A folded layer runs as the layer that it equals, with weights of its own. Gives the graph.
    """
    from transformers import DynamicCache

    for name, function in RECOGNISED.items():
        monkeypatch.setitem(interpret.OPS, name, function)
    graph = recognise(capture_decode(config, batch=3, max_seq_len=16, model_class=model_class)).graph
    assert not [op for op in graph.ops if op.name.startswith("aten.")]
    model = random_model(config, model_class)
    theirs, ours = DynamicCache(config=config), {}
    with torch.no_grad():
        for step in range(4):
            ids, positions = torch.randint(3, config.vocab_size, (3, 1)), torch.full((3, 1), step)
            expected = model(
                input_ids=ids, position_ids=positions, use_cache=True, **{cache_argument(model): theirs}
            ).logits
            (logits,) = interpret.run(graph, {"input_ids": ids, "position_ids": positions, **model.state_dict()}, ours)
            assert expected.std() > 1e-2
            assert (logits - expected).abs().max() < 1e-4 * expected.abs().max(), f"step {step}"
    return graph
