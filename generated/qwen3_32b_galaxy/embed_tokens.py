"""Embed tokens of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import ccl
from . import model_config as cfg


class EmbedTokens:
    """model.embed_tokens.

    weight: [151936, 1280] bfloat16, dim 3 split over mesh axis 1
    """

    def __init__(self, mesh_device, weights):
        self.weight = weights.embedding("weight", mesh_dims=(None, 3))

    def decode_forward(self, input_ids):
        """One token for every user.

        input_ids: [1, 1, 1, 32] uint32
        """
        hidden_states = ttnn.embedding(
            input_ids, self.weight, layout=ttnn.TILE_LAYOUT, memory_config=cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY
        )  # [1, 32, 1280]
        hidden_states = ttnn.reshape(
            hidden_states, [1, 1, 32, 1280], memory_config=cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY
        )  # [1, 1, 32, 1280]
        return hidden_states

    def prefill_forward(self, input_ids):
        """A chunk of one user's prompt.

        input_ids: [1, 1, 1, 2048] uint32
        """
        hidden_states = ttnn.embedding(
            input_ids, self.weight, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 2048, 1280]
        hidden_states = ttnn.reshape(
            hidden_states, [1, 1, 2048, 1280], memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 2048, 1280]
        hidden_states = ccl.mesh_partition(
            hidden_states, 2, 0, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 256, 1280]
        return hidden_states

    def short_prefill_forward(self, input_ids):
        """A short chunk of one user's prompt.

        input_ids: [1, 1, 1, seq_len] uint32
        """
        seq_len = input_ids.shape[3]
        hidden_states = ttnn.embedding(
            input_ids, self.weight, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, seq_len, 1280]
        hidden_states = ttnn.reshape(
            hidden_states, [1, 1, seq_len, 1280], memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, seq_len, 1280]
        return hidden_states
