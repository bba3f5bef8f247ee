"""Rotary emb of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import model_config as cfg


class Qwen3RotaryEmbedding:
    """model.rotary_emb."""

    def __init__(self, mesh_device, weights):
        self.cos = weights.position_table(table="cos")
        self.sin = weights.position_table(table="sin")

    def decode_forward(self, position_ids):
        """One token for every user.

        position_ids: [1, 1, 1, 8] uint32, dim 3 split over mesh axis 1
        """
        cos = ttnn.embedding(
            position_ids, self.cos, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.L1_MEMORY_CONFIG
        )  # [1, 8, 128]
        cos = ttnn.reshape(cos, [1, 8, 1, 128], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 8, 1, 128]
        cos = ttnn.repeat(cos, [1, 2, 1, 1], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 16, 1, 128]
        cos = ttnn.to_memory_config(cos, cfg.ROTARY_EMB_COS_MEMORY)  # [1, 16, 1, 128]
        sin = ttnn.embedding(
            position_ids, self.sin, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.L1_MEMORY_CONFIG
        )  # [1, 8, 128]
        sin = ttnn.reshape(sin, [1, 8, 1, 128], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 8, 1, 128]
        sin = ttnn.repeat(sin, [1, 2, 1, 1], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 16, 1, 128]
        sin = ttnn.to_memory_config(sin, cfg.ROTARY_EMB_SIN_MEMORY)  # [1, 16, 1, 128]
        return cos, sin

    def prefill_forward(self, position_ids):
        """A chunk of one user's prompt.

        position_ids: [1, 1, 1, 512] uint32, dim 3 split over mesh axis 1
        """
        cos = ttnn.embedding(
            position_ids, self.cos, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 512, 128]
        cos = ttnn.reshape(cos, [1, 1, 512, 128], memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 512, 128]
        sin = ttnn.embedding(
            position_ids, self.sin, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 512, 128]
        sin = ttnn.reshape(sin, [1, 1, 512, 128], memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 512, 128]
        return cos, sin

    def short_prefill_forward(self, position_ids):
        """A short chunk of one user's prompt.

        position_ids: [1, 1, 1, seq_len] uint32
        """
        seq_len = position_ids.shape[3]
        cos = ttnn.embedding(
            position_ids, self.cos, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, seq_len, 128]
        cos = ttnn.reshape(cos, [1, 1, seq_len, 128], memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 128]
        sin = ttnn.embedding(
            position_ids, self.sin, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, seq_len, 128]
        sin = ttnn.reshape(sin, [1, 1, seq_len, 128], memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 128]
        return cos, sin
