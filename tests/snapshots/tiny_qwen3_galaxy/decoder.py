"""Decoder of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import model_config as cfg
from .attention import Qwen3Attention
from .mlp import Qwen3MLP
from .norm import Qwen3RMSNorm, Qwen3RMSNormGathered


class Qwen3DecoderLayer:
    """model.layers.N."""

    def __init__(self, mesh_device, weights):
        self.input_layernorm = Qwen3RMSNorm(mesh_device, weights.at("input_layernorm"))
        self.self_attn = Qwen3Attention(mesh_device, weights.at("self_attn"))
        self.post_attention_layernorm = Qwen3RMSNormGathered(mesh_device, weights.at("post_attention_layernorm"))
        self.mlp = Qwen3MLP(mesh_device, weights.at("mlp"))

    def decode_forward(self, hidden_states, cos, sin, key_cache, value_cache, current_pos, page_table):
        """One token for every user.

        hidden_states: [1, 1, 32, 1280] bfloat16, dim 3 split over mesh axis 1
        cos: [1, 1, 256, 128] bfloat16, dim 2 split over mesh axis 1
        sin: [1, 1, 256, 128] bfloat16, dim 2 split over mesh axis 1
        key_cache: [576, 1, 64, 128] bfloat8_b, dim 1 split over mesh axis 0, dim 0 split over mesh axis 1
        value_cache: [576, 1, 64, 128] bfloat8_b, dim 1 split over mesh axis 0, dim 0 split over mesh axis 1
        current_pos: [8] int32, dim 0 split over mesh axis 1
        page_table: [8, 64] int32, dim 0 split over mesh axis 1
        """
        input_layernorm_output = self.input_layernorm.decode_forward(hidden_states)  # [1, 1, 32, 1280]
        o = self.self_attn.decode_forward(
            input_layernorm_output, cos, sin, key_cache, value_cache, current_pos, page_table
        )  # [1, 1, 32, 1280]
        hidden_states = ttnn.add(hidden_states, o, memory_config=cfg.RESIDUAL_MEMORY)  # [1, 1, 32, 1280]
        post_attention_layernorm_output = self.post_attention_layernorm.decode_forward(
            hidden_states
        )  # [1, 1, 32, 5120]
        down = self.mlp.decode_forward(post_attention_layernorm_output)  # [1, 1, 32, 1280]
        hidden_states = ttnn.add(hidden_states, down, memory_config=cfg.RESIDUAL_MEMORY)  # [1, 1, 32, 1280]
        return hidden_states

    def prefill_forward(
        self, hidden_states, cos, sin, key_cache, value_cache, chunk_page_table, page_table, chunk_start
    ):
        """A chunk of one user's prompt.

        hidden_states: [1, 1, 256, 1280] bfloat16, dim 2 split over mesh axis 0, dim 3 split over mesh axis 1
        cos: [1, 1, 512, 128] bfloat16, dim 2 split over mesh axis 1
        sin: [1, 1, 512, 128] bfloat16, dim 2 split over mesh axis 1
        key_cache: [576, 1, 64, 128] bfloat8_b, dim 1 split over mesh axis 0, dim 0 split over mesh axis 1
        value_cache: [576, 1, 64, 128] bfloat8_b, dim 1 split over mesh axis 0, dim 0 split over mesh axis 1
        chunk_page_table: [1, 32] int32, dim 0 split over mesh axis 1
        page_table: [1, 64] int32, dim 0 split over mesh axis 1
        chunk_start: [1] int32, dim 0 split over mesh axis 1
        """
        input_layernorm_output = self.input_layernorm.prefill_forward(hidden_states)  # [1, 1, 256, 1280]
        o = self.self_attn.prefill_forward(
            input_layernorm_output, cos, sin, key_cache, value_cache, chunk_page_table, page_table, chunk_start
        )  # [1, 1, 256, 1280]
        hidden_states = ttnn.add(hidden_states, o, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 256, 1280]
        post_attention_layernorm_output = self.post_attention_layernorm.prefill_forward(
            hidden_states
        )  # [1, 1, 256, 5120]
        down = self.mlp.prefill_forward(post_attention_layernorm_output)  # [1, 1, 256, 1280]
        hidden_states = ttnn.add(hidden_states, down, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 256, 1280]
        return hidden_states

    def short_prefill_forward(
        self, hidden_states, cos, sin, key_cache, value_cache, chunk_page_table, page_table, chunk_start
    ):
        """A short chunk of one user's prompt.

        hidden_states: [1, 1, seq_len, 1280] bfloat16, dim 3 split over mesh axis 1
        cos: [1, 1, seq_len, 128] bfloat16
        sin: [1, 1, seq_len, 128] bfloat16
        key_cache: [576, 1, 64, 128] bfloat8_b, dim 1 split over mesh axis 0, dim 0 split over mesh axis 1
        value_cache: [576, 1, 64, 128] bfloat8_b, dim 1 split over mesh axis 0, dim 0 split over mesh axis 1
        chunk_page_table: [1, seq_len * 0.015625] int32, dim 0 split over mesh axis 1
        page_table: [1, 64] int32, dim 0 split over mesh axis 1
        chunk_start: [1] int32
        """
        input_layernorm_output = self.input_layernorm.short_prefill_forward(hidden_states)  # [1, 1, seq_len, 1280]
        o = self.self_attn.short_prefill_forward(
            input_layernorm_output, cos, sin, key_cache, value_cache, chunk_page_table, page_table, chunk_start
        )  # [1, 1, seq_len, 1280]
        hidden_states = ttnn.add(hidden_states, o, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 1280]
        post_attention_layernorm_output = self.post_attention_layernorm.short_prefill_forward(
            hidden_states
        )  # [1, 1, seq_len, 5120]
        down = self.mlp.short_prefill_forward(post_attention_layernorm_output)  # [1, 1, seq_len, 1280]
        hidden_states = ttnn.add(hidden_states, down, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 1280]
        return hidden_states
