"""Embed tokens of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import model_config as cfg


class EmbedTokens:
    """model.embed_tokens, one step for every user."""

    def __init__(self, mesh_device, weights):
        self.weight = weights.embedding("weight", mesh_dims=(None, 3))

    def forward(self, input_ids):
        hidden_states = ttnn.embedding(
            input_ids, self.weight, layout=ttnn.TILE_LAYOUT, memory_config=cfg.WIDTH_SHARDED_1280_ON_5X4
        )  # [1, 32, 1280]
        hidden_states = ttnn.reshape(
            hidden_states, [1, 1, 32, 1280], memory_config=cfg.WIDTH_SHARDED_1280_ON_5X4
        )  # [1, 1, 32, 1280]
        return hidden_states
