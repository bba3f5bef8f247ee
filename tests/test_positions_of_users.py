"""Masks in chunks of positions, and positions that a model counts on from the length of its cache."""

import pytest
import torch
from tiny import CONFIGS, config_of
from transformers import AutoConfig, masking_utils

from fx2ttnn.capture import capture_decode, capture_prefill
from fx2ttnn.capture.attention import Mask, mask_function
from fx2ttnn.capture.own_positions import positions_of_users
from fx2ttnn.errors import CaptureError
from fx2ttnn.graph import interpret
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise import recognise

USERS, CHUNK = 3, 8
PADDED = torch.tensor([0, 1, 0])


@pytest.mark.parametrize(
    ("function", "size", "kind"),
    [
        (masking_utils.causal_mask_function, None, {}),
        (masking_utils.sliding_window_causal_mask_function(CHUNK), CHUNK, {"window": CHUNK}),
        (masking_utils.chunked_causal_mask_function(CHUNK, torch.zeros(USERS, dtype=int)), CHUNK, {"chunk": CHUNK}),
    ],
)
def test_a_mask_is_named_for_what_it_lets_through(function, size, kind):
    mask = Mask(**kind)
    assert mask_function(mask_function=function, local_size=size, batch_size=USERS) == mask
    length = 3 * CHUNK
    query, key = torch.arange(length)[:, None], torch.arange(length)
    seen = key <= query
    if mask.window:
        seen &= key > query - mask.window
    if mask.chunk:
        assert torch.equal(function(0, 0, query, key)[:CHUNK, :CHUNK], seen[:CHUNK, :CHUNK])  # one chunk
        seen &= key // mask.chunk == query // mask.chunk
    assert torch.equal(function(0, 0, query, key), seen)


@pytest.mark.parametrize("size", [CHUNK, CHUNK + 1, None])
def test_other_masks_have_no_name(size):
    padded = masking_utils.chunked_causal_mask_function(CHUNK, PADDED)
    assert mask_function(mask_function=padded, local_size=size, batch_size=USERS).unsupported
    if size != CHUNK:
        plain = masking_utils.chunked_causal_mask_function(CHUNK, torch.zeros(USERS, dtype=int))
        assert mask_function(mask_function=plain, local_size=size, batch_size=USERS).unsupported


def factors(graph):
    return [op for op in graph.ops if op.attrs.get("stem") == "factors"]


def test_each_user_is_at_a_position_of_its_own():
    config = config_of("llama4_text")
    positions = torch.tensor([[0], [5], [12]])
    wanted = torch.log1p(((positions + 1) / config.floor_scale).floor()) * config.attn_scale + 1
    (decode,) = factors(recognise(capture_decode(config, batch=USERS, max_seq_len=16)).graph)
    (prefill,) = factors(recognise(capture_prefill(config, USERS, max_seq_len=16)).graph)
    for table, given in ((decode, positions), (prefill, positions.T)):
        (found,) = interpret.run(table.attrs["table"], {"position_ids": given}, {})
        assert torch.equal(found, wanted.view(*given.shape, 1).expand(found.shape))


def test_factors_of_one_are_left_out():
    """Up to the position at which queries begin to grow there is nothing to multiply."""
    config = AutoConfig.for_model(**{**CONFIGS["llama4_text"], "floor_scale": 16})
    for length, count in ((15, 0), (16, 1)):
        graph = recognise(capture_decode(config, batch=2, max_seq_len=length)).graph
        assert len(factors(graph)) == len([op for op in graph.ops if op.name == "scale_positions"]) == count
        assert not [op for op in graph.ops if op.name.startswith("aten.")]


def test_users_that_are_not_told_apart_are_refused():
    """Positions [tokens] that meet [users, tokens] without a dim of users."""
    shapes = {"position_ids": (2, 1), "x": (2, 1), "own": (1,), "out": (2, 1)}
    ops = (
        Op("own_positions", (Ref("position_ids"),), ("own",)),
        Op("aten.mul.Tensor", (Ref("x"), Ref("own")), ("out",)),
    )
    graph = Graph("decode", ("position_ids", "x"), ("out",), ops, {n: TensorSpec(s) for n, s in shapes.items()})
    with pytest.raises(CaptureError, match="does not tell users apart"):
        positions_of_users(graph)
