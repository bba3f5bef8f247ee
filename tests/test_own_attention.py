"""Attention that a model computes in its own code: recognised where it is causal, refused where it is not."""

import pytest
from recognised import assert_equals_model
from suites import assert_passes, run_suite
from tiny import CONFIGS, write_config

from fx2ttnn import pipeline
from fx2ttnn.capture import capture_decode, capture_prefill, load_config, load_source, own_attention
from fx2ttnn.errors import CaptureError

# A model of a user's own that knows nothing of transformers' attention interface; `ATTEND` and `MASK` are filled in.
SOURCE = """
import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast


class SelfMixing(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.index, self.heads, self.kv, self.dim = index, config.num_attention_heads, config.num_key_value_heads, 64
        self.wq = nn.Linear(config.hidden_size, self.heads * 64, bias=False)
        self.wk = nn.Linear(config.hidden_size, self.kv * 64, bias=False)
        self.wv = nn.Linear(config.hidden_size, self.kv * 64, bias=False)
        self.wo = nn.Linear(self.heads * 64, config.hidden_size, bias=False)
        seen = torch.ones(256, 256, dtype=torch.bool).tril()
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x, positions, mask, cache):
        users, tokens, _ = x.shape
        q = self.wq(x).view(users, tokens, self.heads, 64).permute(0, 2, 1, 3)
        k = self.wk(x).view(users, tokens, self.kv, 64).transpose(1, 2)
        v = self.wv(x).view(users, tokens, self.kv, 64).transpose(1, 2)
        k, v = cache.update(k, v, self.index)
        length = k.shape[2]
ATTEND
        return self.wo(out.transpose(1, 2).reshape(users, tokens, -1))


class Block(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.norm, self.mixing = nn.LayerNorm(config.hidden_size), SelfMixing(config, index)

    def forward(self, x, positions, mask, cache):
        return x + self.mixing(self.norm(x), positions, mask, cache)


class OwnForCausalLM(PreTrainedModel):
    config_class = LlamaConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.num_hidden_layers))
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, position_ids=None, past_key_values=None, use_cache=True, **kwargs):
        x = self.embed(input_ids) + self.places(position_ids)
        mask = MASK
        for layer in self.layers:
            x = layer(x, position_ids, mask, past_key_values)
        return CausalLMOutputWithPast(logits=self.head(x), past_key_values=past_key_values)
"""
TORCH = "out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal={causal}, enable_gqa=True)"
BY_HAND = """
k, v = (t[:, :, None].expand(-1, -1, self.heads // self.kv, -1, -1).flatten(1, 2) for t in (k, v))
scores = q @ k.transpose(-1, -2) / math.sqrt(64)
seen = {seen}
weights = torch.where(seen, scores, -1e9).float().softmax(-1).to(q.dtype)
out = weights @ v"""
ROWS = "self.seen[length - tokens : length, :length]"
EINSUM = """
q = q.unflatten(1, (self.kv, -1))
scores = torch.einsum("bkgsd,bkld->bkgsl", q, k) * 0.125 + mask[:, :, None]
out = torch.einsum("bkgsl,bkld->bkgsd", scores.softmax(-1), v).flatten(1, 2)"""
THEIRS = "create_causal_mask(self.config, x, None, past_key_values, position_ids)"
STYLES = {
    "torch": (TORCH.format(causal="tokens > 1"), "None", {}),
    "masked": (TORCH.format(causal="False"), THEIRS, {}),
    "buffer": (BY_HAND.format(seen=ROWS), "None", {}),
    "window": (
        BY_HAND.format(seen="(torch.arange(length) <= positions[:, None, :, None]) & (torch.arange(length) > positions[:, None, :, None] - 5)"),
        "None",
        {"sliding_window": 5},
    ),
    "einsum": (EINSUM, THEIRS, {}),
    "capped": (BY_HAND.format(seen=ROWS).replace("seen =", "scores = 30.0 * torch.tanh(scores / 30.0)\nseen ="), "None", {"softcap": 30.0}),
}  # fmt: skip


def own(tmp_path, attend, mask):
    """Config and class of a model whose attention is `attend`, under `mask`."""
    path = tmp_path / "modeling_own.py"
    lines = "\n".join(" " * 8 + line for line in attend.strip().splitlines())
    path.write_text(SOURCE.replace("ATTEND", lines).replace("MASK", mask))
    folder = write_config(tmp_path / "own", CONFIGS["llama"])
    source = load_source(str(folder), module=f"{path}:OwnForCausalLM")
    return source.config, source.model_class


@pytest.mark.parametrize("style", STYLES)
def test_causal_attention_is_recognised(style, tmp_path):
    attend, mask, form = STYLES[style]
    config, model_class = own(tmp_path, attend, mask)
    graph = assert_equals_model(config, model_class)
    prompt = capture_prefill(config, 16, 64, model_class).graph
    for op in (op for found in (graph, prompt) for op in found.ops if op.name == "attention"):
        assert op.attrs == pytest.approx({"scaling": 0.125, **form})


OF_TRANSFORMERS = {
    "falcon": {"model_type": "falcon"},
    "falcon_groups": {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2},
    "gpt_neo": {"model_type": "gpt_neo", "num_layers": 2, "num_heads": 8, "attention_types": [[["global", "local"], 1]], "window_size": 5},
    "gpt_neox_japanese": {"model_type": "gpt_neox_japanese"},
    "xglm": {"model_type": "xglm", "d_model": 256, "num_layers": 2, "attention_heads": 8, "ffn_dim": 512},
}  # fmt: skip


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_a_model_of_transformers_is_recognised(name, tmp_path):
    fields = {**CONFIGS["llama"], "hidden_size": 512, "num_key_value_heads": 8, **OF_TRANSFORMERS[name]}
    del fields["head_dim"]  # which some compute
    graph = assert_equals_model(load_config(str(write_config(tmp_path / name, fields))))
    if name == "gpt_neo":
        assert [op.attrs.get("sliding_window") for op in graph.ops if op.name == "attention"] == [None, 5]
    if name == "falcon_groups":
        assert {graph.specs[op.args[0]].shape[1] for op in graph.ops if op.name == "update_cache"} == {2}


@pytest.mark.slow
@pytest.mark.parametrize(("style", "target"), [("window", "t3k")])
def test_the_emitted_suite_of_a_model_of_ones_own_passes(style, target, tmp_path):
    own(tmp_path, *STYLES[style][:2])
    module = f"{tmp_path / 'modeling_own.py'}:OwnForCausalLM"
    options = pipeline.Options(str(tmp_path / "own"), target, max_seq_len=256, module=module)
    pipeline.write_package(pipeline.compile_model(options), tmp_path / "package_of_own")
    assert_passes(run_suite(tmp_path / "package_of_own", "tests/modules", "tests/model/test_model.py"))


ALIBI = BY_HAND.replace("seen =", "scores = scores - 0.5 * (length - 1 - torch.arange(length))\nseen =")


@pytest.mark.parametrize("attend", [BY_HAND, ALIBI], ids=["", "alibi"])
@pytest.mark.parametrize(
    "differs",
    ["scores = scores * 1.001", "seen = seen & (torch.arange(length) != 3)", "scores = scores.clamp(-2, 2)", ""],
    ids=["scale", "key", "clamp", "nothing"],
)
def test_what_long_prompts_alone_do_is_noticed(attend, differs, tmp_path, monkeypatch):
    """A long prompt is tried on one case of numbers, where a short one is tried on three."""
    monkeypatch.setattr(own_attention, "MANY", 8)
    lines = attend.format(seen=ROWS).replace(
        "weights =", f"if tokens > 8:\n    {differs}\nweights =" if differs else "weights ="
    )
    config, model_class = own(tmp_path, lines, "None")
    if not differs:
        capture_prefill(config, 16, 64, model_class)
        return
    with pytest.raises(CaptureError, match="on 16 tokens after 0 others it gives other numbers"):
        capture_prefill(config, 16, 64, model_class)


@pytest.mark.parametrize(
    ("attend", "mask", "said"),
    [
        (TORCH.format(causal="False"), "None", "other numbers"),  # in a prompt, later tokens are seen
        (BY_HAND.format(seen=f"{ROWS} & (torch.arange(length) % 9 != 3)"), "None", "other numbers"),
        (BY_HAND.format(seen="self.seen[:tokens, :length]"), "None", "other numbers"),
        (BY_HAND.format(seen=ROWS).replace("-1e9", "-9.0"), "None", "other numbers"),
        (BY_HAND.format(seen=ROWS).replace("/ math", "* self.wq.weight[0, 0] / math"), "None", "one tensor of queries"),
        (TORCH.format(causal="tokens > 1") + "\nout = out * past", "None", "cannot be traced"),
        (TORCH.format(causal="tokens > 1") + "\nout = out / length", "None", "length of its cache"),
        (TORCH.format(causal="tokens > 1") + "\nout = out + k.mean()", "None", "only attention may"),
    ],
)  # fmt: skip
def test_what_is_no_causal_attention_is_refused(attend, mask, said, tmp_path):
    config, model_class = own(tmp_path, attend, mask)
    with pytest.raises(CaptureError, match=said):
        capture_decode(config, 2, 64, model_class)
        capture_prefill(config, 16, 64, model_class)
