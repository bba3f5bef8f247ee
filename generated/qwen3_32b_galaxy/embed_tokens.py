"""Embed tokens of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import model_config as cfg


class EmbedTokens:
    """model.embed_tokens."""

    def __init__(self, mesh_device, weights):
        self.weight = weights.embedding("weight", mesh_dims=(None, 3))

    def decode_forward(self, input_ids):
        """One token for every user."""
        hidden_states = ttnn.embedding(
            input_ids, self.weight, layout=ttnn.TILE_LAYOUT, memory_config=cfg.WIDTH_SHARDED_1280_ON_5X4
        )  # [1, 32, 1280]
        hidden_states = ttnn.reshape(
            hidden_states, [1, 1, 32, 1280], memory_config=cfg.WIDTH_SHARDED_1280_ON_5X4
        )  # [1, 1, 32, 1280]
        return hidden_states

    def prefill_forward(self, input_ids):
        """A chunk of one user's prompt."""
        seq_len = input_ids.shape[3]
        hidden_states = ttnn.embedding(
            input_ids, self.weight, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, seq_len, 1280]
        hidden_states = ttnn.reshape(
            hidden_states, [1, 1, seq_len, 1280], memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, seq_len, 1280]
        return hidden_states
