"""Every type of rotary embedding that transformers has, in sequences up to the original length and beyond, against Hugging Face's model."""

from dataclasses import replace

import pytest
import torch
from test_capture_numbers import BASE, random_model
from transformers import DynamicCache
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from fx2ttnn.capture import build_model, capture_decode, capture_prefill
from fx2ttnn.capture.trace import cache_argument, trace_step
from fx2ttnn.errors import CaptureError
from fx2ttnn.graph import interpret
from fx2ttnn.ops import TABLE
from fx2ttnn.recognise import recognise
from fx2ttnn.recognise.tables import border_of

ORIGINAL, LONGEST = 4, 8


def longrope(columns: int) -> dict:
    """Factors that turn a model to another one beyond the original length."""
    factors = {"short_factor": [1 + n / 8 for n in range(columns)], "long_factor": [3 + n / 2 for n in range(columns)]}
    return {"rope_type": "longrope", "original_max_position_embeddings": ORIGINAL, **factors}


BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
TYPES = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "llama3": {"factor": 8.0, "original_max_position_embeddings": ORIGINAL, **BANDS},
    "proportional": {"partial_rotary_factor": 0.5},
    "longrope": longrope(8),
}
PHI3 = {"model_type": "phi3", "sliding_window": None, "original_max_position_embeddings": ORIGINAL}
MODELS = {
    **{f"llama_{name}": {"rope_parameters": {"rope_type": name, **fields}} for name, fields in TYPES.items()},
    "phi3_mini": {**PHI3, "rope_scaling": longrope(8)},
    "phi4_mini": {**PHI3, "rope_scaling": longrope(6), "partial_rotary_factor": 0.75},
}


def config_of(name):
    from transformers import AutoConfig

    fields = {**BASE, "num_hidden_layers": 2, "max_position_embeddings": LONGEST, "model_type": "llama", **MODELS[name]}
    return AutoConfig.for_model(**fields)


def graph_of(capture):
    graph = recognise(capture).graph
    assert not [op for op in graph.ops if op.name.startswith("aten.")]
    return graph


@pytest.fixture(autouse=True)
def recognised_ops(monkeypatch):
    monkeypatch.setitem(TABLE, "last_tile", replace(TABLE["last_tile"], compute=lambda run, op, args: args[0]))


def test_every_type_is_here():
    assert set(TYPES) == {"default", *ROPE_INIT_FUNCTIONS}


@pytest.mark.parametrize("max_seq_len", [ORIGINAL, LONGEST])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_decode(name, max_seq_len):
    """Steps one behind the other, to the end of the cache: the keys of early ones stay as they were, as in Hugging Face's cache."""
    config = config_of(name)
    graph = graph_of(capture_decode(config, batch=2, max_seq_len=max_seq_len))
    two_kinds = config.rope_parameters["rope_type"] == "longrope" and max_seq_len > ORIGINAL
    assert border_of(graph) == (ORIGINAL if two_kinds else 0)
    model, theirs, ours = random_model(config), DynamicCache(config=config), {}
    for step in range(max_seq_len):
        ids, at = torch.randint(3, 80, (2, 1)), torch.full((2, 1), step)
        expected = model(input_ids=ids, position_ids=at, use_cache=True, **{cache_argument(model): theirs}).logits
        (logits,) = interpret.run(graph, {"input_ids": ids, "position_ids": at, **model.state_dict()}, ours)
        assert (logits - expected).abs().max() < 1e-4, f"step {step}"


@pytest.mark.parametrize("count", [ORIGINAL, ORIGINAL + 1])
@pytest.mark.parametrize("name", ["llama_dynamic", "llama_longrope", "phi3_mini", "phi4_mini"])
@torch.no_grad()
def test_prompt(name, count):
    """All positions of a prompt have the tables of its length."""
    config = config_of(name)
    graph = graph_of(capture_prefill(config, tokens=count, max_seq_len=LONGEST))
    model, ids = random_model(config), torch.randint(3, 80, (1, count))
    inputs = {"input_ids": ids, "position_ids": torch.arange(count)[None]}
    (logits,) = interpret.run(graph, {**inputs, **model.state_dict()}, {})
    assert (logits - model(ids).logits).abs().max() < 1e-4


def pick(condition, yes, no):
    return yes if condition else no


WAYS = {
    "no matter": (lambda last, x: pick(last + 1 > 4, x, x), True),
    "never longer": (lambda last, x: pick(last + 1 <= 8, x, -x), True),
    "always longer": (lambda last, x: pick(last + 1 > 0, x, -x), True),
    "two ways": (lambda last, x: pick(last + 1 > 4, x, -x), False),
    "two ways behind one": (lambda last, x: pick(last < 5, pick(last > 3, x, x), pick(last >= 6, x, -x)), False),
}


@pytest.mark.parametrize(("use", "one_way"), WAYS.values(), ids=WAYS)
def test_a_model_goes_one_way_whatever_the_length(use, one_way):
    config = config_of("llama_default")
    model = build_model(config)
    forward = model.model.norm.forward

    def longer(x):
        return use(longer.positions.max(), forward(x))

    model.model.register_forward_pre_hook(
        lambda m, args, kwargs: setattr(longer, "positions", kwargs["position_ids"]), with_kwargs=True
    )
    model.model.norm.forward = longer
    if one_way:
        assert trace_step(model, (2, 1), LONGEST)
    else:
        with pytest.raises(CaptureError, match="another way"):
            trace_step(model, (2, 1), LONGEST)


def test_a_model_that_asks_for_the_truth_of_a_length():
    """Phi-3.5-MoE has long ropes, and takes another way in Python behind the original length: up to there it is one graph."""
    scaling = longrope(8) | {"short_mscale": 1.2, "long_mscale": 1.3}
    fields = {**BASE, "num_hidden_layers": 2, "max_position_embeddings": LONGEST, "num_local_experts": 2}
    from transformers import AutoConfig

    config = AutoConfig.for_model("phimoe", **fields, rope_scaling=scaling, original_max_position_embeddings=ORIGINAL)
    with pytest.raises(CaptureError, match=f"longer than {ORIGINAL} tokens.*--max-seq-len {ORIGINAL}"):
        capture_decode(config, batch=2, max_seq_len=LONGEST)
    graph = graph_of(capture_decode(config, batch=2, max_seq_len=ORIGINAL))
    model = random_model(config)
    ids, at = torch.randint(3, 80, (2, 1)), torch.zeros(2, 1, dtype=torch.int64)
    expected = model(input_ids=ids, position_ids=at, use_cache=False).logits
    (logits,) = interpret.run(graph, {"input_ids": ids, "position_ids": at, **model.state_dict()}, {})
    assert (logits - expected).abs().max() < 1e-4
