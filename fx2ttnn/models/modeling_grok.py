"""Grok 2.5 (`xai-org/grok-2`) in the style of transformers, which has no class for it. A reference to compile from and to compare with.

After public descriptions of its config.json and of how sglang serves it: norms before and after attention and before and after the
mixture, a dense MLP beside the mixture whose sum is divided by sqrt(2), caps on the scores of attention, of the router and on the
logits, experts' weights that are not made to add up to 1, and plain rotary embeddings (rope_type "original").

- Behind position `attn_temperature_len` (1024) Grok scales its capped scores up with the logarithm of the position. That is left out, so
  this model holds no more positions than that.
- Unverified: GELU in its form with tanh, the default of JAX, in which Grok was written. No checkpoint was at hand; that of the hub is cut
  for eight devices, each file a part of every tensor, and has to be joined first.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter
from transformers.integrations import use_experts_implementation
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gemma2.modeling_gemma2 import apply_rotary_pos_emb, eager_attention_forward
from transformers.models.mixtral.modeling_mixtral import MixtralRMSNorm, MixtralRotaryEmbedding


def softcap(x: torch.Tensor, cap: float) -> torch.Tensor:
    return cap * torch.tanh(x / cap)


class GrokConfig(PreTrainedConfig):
    """Fields of the published config.json; the defaults are its values."""

    model_type = "grok"
    attribute_map = {"num_experts": "num_local_experts"}  # noqa: RUF012  (transformers' form)
    default_theta = 208533496.0

    vocab_size: int = 131072
    hidden_size: int = 8192
    intermediate_size: int = 32768
    moe_intermediate_size: int = 16384
    num_hidden_layers: int = 64
    num_attention_heads: int = 64
    num_key_value_heads: int = 8
    head_dim: int = 128
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 131072
    attn_temperature_len: int = 1024
    rms_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    rope_parameters: dict | None = None
    attn_logit_softcapping: float | int = 30.0
    router_logit_softcapping: float | int = 30.0
    final_logit_softcapping: float | int = 50.0
    embedding_multiplier_scale: float = 90.50966799187809
    output_multiplier_scale: float = 0.5
    use_cache: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        if self.attn_temperature_len > 0:
            self.max_position_embeddings = min(self.max_position_embeddings, self.attn_temperature_len)
        super().__post_init__(**kwargs)


class GrokMLP(nn.Module):
    def __init__(self, config: GrokConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


@use_experts_implementation
class GrokExperts(nn.Module):
    """All experts' weights: gate and up [experts, 2 * inner, hidden], down [experts, hidden, inner]."""

    def __init__(self, config: GrokConfig):
        super().__init__()
        self.num_experts = config.num_local_experts
        inner = config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(self.num_experts, 2 * inner, config.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(self.num_experts, config.hidden_size, inner))
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states, top_k_index, top_k_weights):
        """hidden [tokens, hidden], index and weights [tokens, k] -> [tokens, hidden]."""
        out = torch.zeros_like(hidden_states)
        for expert in range(self.num_experts):
            token, slot = torch.where(top_k_index == expert)
            gate, up = F.linear(hidden_states[token], self.gate_up_proj[expert]).chunk(2, dim=-1)
            found = F.linear(self.act_fn(gate) * up, self.down_proj[expert])
            out.index_add_(0, token, (found * top_k_weights[token, slot, None]).to(out.dtype))
        return out


class GrokRouter(nn.Module):
    def __init__(self, config: GrokConfig):
        super().__init__()
        self.top_k, self.cap = config.num_experts_per_tok, config.router_logit_softcapping
        self.weight = nn.Parameter(torch.empty(config.num_local_experts, config.hidden_size))

    def forward(self, hidden_states):
        """[tokens, hidden] -> logits [tokens, experts], weights and index of the chosen [tokens, k]."""
        logits = softcap(F.linear(hidden_states, self.weight), self.cap)
        weights, index = torch.topk(torch.softmax(logits.float(), dim=-1), self.top_k, dim=-1)
        return logits, weights, index


class GrokSparseMoeBlock(nn.Module):
    def __init__(self, config: GrokConfig):
        super().__init__()
        self.gate = GrokRouter(config)
        self.experts = GrokExperts(config)

    def forward(self, hidden_states):
        tokens = hidden_states.view(-1, hidden_states.shape[-1])
        _, weights, index = self.gate(tokens)
        return self.experts(tokens, index, weights).reshape(hidden_states.shape)


class GrokAttention(nn.Module):
    def __init__(self, config: GrokConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        kv_size = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, hidden_states, position_embeddings, attention_mask, cache):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_proj(hidden_states).view(shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        cap = self.config.attn_logit_softcapping
        found, _ = attend(self, query, key, value, attention_mask, scaling=self.scaling, softcap=cap)
        return self.o_proj(found.reshape(*hidden_states.shape[:-1], -1).contiguous())


class GrokDecoderLayer(nn.Module):
    def __init__(self, config: GrokConfig, layer_idx: int):
        super().__init__()
        self.self_attn = GrokAttention(config, layer_idx)
        self.block_sparse_moe = GrokSparseMoeBlock(config)
        self.mlp = GrokMLP(config)
        self.pre_attn_norm = MixtralRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attn_norm = MixtralRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.pre_moe_norm = MixtralRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_moe_norm = MixtralRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden_states, position_embeddings, attention_mask, cache):
        attended = self.self_attn(self.pre_attn_norm(hidden_states), position_embeddings, attention_mask, cache)
        hidden_states = hidden_states + self.post_attn_norm(attended)
        normed = self.pre_moe_norm(hidden_states)
        mixed = (self.mlp(normed) + self.block_sparse_moe(normed)) / math.sqrt(2)
        return hidden_states + self.post_moe_norm(mixed)


class GrokPreTrainedModel(PreTrainedModel):
    config_class = GrokConfig
    config: GrokConfig
    base_model_prefix = "model"
    _supports_sdpa = False  # its kernels take no cap
    _supports_attention_backend = True

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (GrokExperts, GrokRouter)):
            for parameter in module.parameters(recurse=False):
                init.normal_(parameter, mean=0.0, std=self.config.initializer_range)


class GrokModel(GrokPreTrainedModel):
    def __init__(self, config: GrokConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(GrokDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = MixtralRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = MixtralRotaryEmbedding(config=config)  # type: ignore[arg-type]
        self.post_init()

    def forward(
        self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, **kwargs
    ):
        cache: Cache | None = past_key_values
        if cache is None and (self.config.use_cache if use_cache is None else use_cache):
            cache = DynamicCache(config=self.config)
        hidden_states = self.embed_tokens(input_ids) * self.config.embedding_multiplier_scale
        if position_ids is None:
            past = cache.get_seq_length() if cache is not None else 0
            position_ids = torch.arange(past, past + input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        mask = create_causal_mask(self.config, hidden_states, attention_mask, cache, position_ids)
        position_embeddings = self.rotary_emb(hidden_states, position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, position_embeddings, mask, cache)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), cache=cache)


class GrokForCausalLM(GrokPreTrainedModel, GenerationMixin):
    def __init__(self, config: GrokConfig):
        super().__init__(config)
        self.model = GrokModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, **kwargs
    ):
        found = self.model(input_ids, attention_mask, position_ids, past_key_values, use_cache)
        logits = self.lm_head(found.last_hidden_state) * self.config.output_multiplier_scale
        logits = softcap(logits, self.config.final_logit_softcapping)
        return CausalLMOutputWithPast(logits=logits, cache=found.cache)


# Checkpoints hold the experts one by one, as Mixtral's do.
register_checkpoint_conversion_mapping(
    GrokConfig.model_type,
    [
        WeightConverter(
            source_patterns=[".experts.*.w1.weight", ".experts.*.w3.weight"],
            target_patterns=".experts.gate_up_proj",
            operations=[MergeModulelist(dim=0), Concatenate(dim=1)],
        ),
        WeightConverter(
            source_patterns=[".experts.*.w2.weight"],
            target_patterns=".experts.down_proj",
            operations=[MergeModulelist(dim=0)],
        ),
    ],
    overwrite=True,
)
