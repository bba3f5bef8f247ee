"""The capture stage: from a configuration to the graph of a decode step or of a chunk of a prompt."""

from __future__ import annotations

import json
from typing import Any

from fx2ttnn.errors import OwnAttention, UserError
from fx2ttnn.ir import Capture, ModuleInfo, TensorSpec


def build_model(config: Any, model_class: Any = None, own_attention: bool = False) -> Any:
    """See `capture.build.build_model`; torch is imported on the first call only."""
    from fx2ttnn.capture import build

    return build.build_model(config, model_class, own_attention)


def capture_decode(config: Any, batch: int = 32, max_seq_len: int = 4096, model_class: Any = None) -> Capture:
    """Captures one new token for each of `batch` users over a cache of `max_seq_len` positions.

    Inputs of the graph: input_ids and position_ids [B, 1], int64; output: logits [B, 1, vocab], float32. Raises UserError
    for sizes the model does not have, CaptureError for a model that cannot be captured.
    """
    return _capture("decode", config, batch, 1, max_seq_len, model_class)


def capture_prefill(config: Any, tokens: int, max_seq_len: int = 4096, model_class: Any = None) -> Capture:
    """Captures `tokens` consecutive tokens of one user, which attend to what the cache holds of the tokens before them.

    Inputs of the graph: input_ids and position_ids [1, S], int64; output: logits [1, S, vocab], float32. Raises as above.
    """
    return _capture("prefill", config, 1, tokens, max_seq_len, model_class)


def _capture(name: str, config: Any, batch: int, tokens: int, max_seq_len: int, model_class: Any) -> Capture:
    _check(config, batch, max_seq_len)
    import torch

    from fx2ttnn.capture.verify import check_attention, check_layers

    plain = json.loads(config.to_json_string(use_diff=False))
    shape = (batch, tokens)
    own_attention = False
    try:
        model, trace, weights, tied, graph = _interface_step(config, name, shape, max_seq_len, model_class)
    except OwnAttention:
        own_attention = True
        model, trace, weights, tied, graph = _own_step(config, name, shape, max_seq_len, model_class)
    check_attention(graph)
    check_layers(graph)
    own_positions = torch.ops.fx2ttnn.own_positions.default
    modules = {p: ModuleInfo(p, type(m).__name__, trace.folded.get(p), numbers_of(m)) for p, m in model.named_modules()}
    return Capture(
        _display_name(config),
        plain,
        graph,
        modules,
        weights,
        tied,
        batch,
        max_seq_len,
        batch,
        own_attention=own_attention,
        own_positions=any(node.target is own_positions for node in trace.graph.graph.nodes),
    )


def _interface_step(config: Any, name: str, shape: tuple[int, int], max_seq_len: int, model_class: Any) -> Any:
    """Model, trace, weights, tied weights and graph of a model that calls the attention function that it is given."""
    from fx2ttnn.capture.clean import clean
    from fx2ttnn.capture.constants import fold_constants
    from fx2ttnn.capture.expanded import expand_before_cache
    from fx2ttnn.capture.own_positions import positions_of_users
    from fx2ttnn.capture.to_graph import to_graph
    from fx2ttnn.capture.trace import trace_step
    from fx2ttnn.capture.verify import reads_caches_itself
    from fx2ttnn.capture.writes import join_writes

    model = build_model(config, model_class)
    weights, tied = _weights(model)
    trace = trace_step(model, shape, max_seq_len)
    graph = clean(fold_constants(clean(join_writes(to_graph(trace, weights, name)))))
    graph = expand_before_cache(clean(positions_of_users(graph)))
    if reads_caches_itself(graph):
        raise OwnAttention(f"{type(model).__name__} computes attention in its own code")
    return model, trace, weights, tied, graph


def _own_step(config: Any, name: str, shape: tuple[int, int], max_seq_len: int, model_class: Any) -> Any:
    """The same of a model that computes attention in its own code."""
    from fx2ttnn.capture.own_step import own_step

    model = build_model(config, model_class, own_attention=True)
    weights, tied = _weights(model)
    trace, graph = own_step(model, weights, name, shape, max_seq_len)
    return model, trace, weights, tied, graph


def numbers_of(module: Any) -> dict[str, float]:
    """The attributes of a module that are floats."""
    return {name: value for name, value in vars(module).items() if isinstance(value, float)}


def _check(config: Any, batch: int, max_seq_len: int) -> None:
    if batch < 1:
        raise UserError(f"batch is {batch}; it must be at least 1")
    longest = getattr(config, "max_position_embeddings", None)
    if max_seq_len < 1 or (longest and max_seq_len > longest):
        limit = f"between 1 and the model's max_position_embeddings, {longest}" if longest else "at least 1"
        raise UserError(f"max_seq_len is {max_seq_len}; it must be {limit}")


def _weights(model: Any) -> tuple[dict[str, TensorSpec], dict[str, str]]:
    """Every tensor of the checkpoint, and for those that are another one under a second name, that one's name."""
    from fx2ttnn.capture.to_graph import spec_of

    first: dict[int, str] = {}
    specs, tied = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        specs[name] = spec_of(tensor)
        if first.setdefault(id(tensor), name) != name:
            tied[name] = first[id(tensor)]
    return specs, tied


def _display_name(config: Any) -> str:
    return config.name_or_path or config.model_type
