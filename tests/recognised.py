"""Whether a recognised graph computes what its model computes, by the table of operations."""

from __future__ import annotations

import torch
from tiny import random_model

from fx2ttnn.capture import capture_decode
from fx2ttnn.capture.trace import cache_argument
from fx2ttnn.graph import interpret
from fx2ttnn.ir import Graph
from fx2ttnn.recognise import recognise


def assert_equals_model(config, model_class=None) -> Graph:
    """The recognised graph of a decode step gives Hugging Face's logits for several steps through the cache.

    A folded layer runs as the layer that it equals, with weights of its own. Gives the graph.
    """
    from transformers import DynamicCache

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
