"""Rotary emb of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn


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
        cos = ttnn.repeat(cos, [1, 1, 32, 1], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 8, 32, 128]
        cos = ttnn.reshape(cos, [1, 1, 256, 128], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 1, 256, 128]
        sin = ttnn.embedding(
            position_ids, self.sin, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.L1_MEMORY_CONFIG
        )  # [1, 8, 128]
        sin = ttnn.reshape(sin, [1, 8, 1, 128], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 8, 1, 128]
        sin = ttnn.repeat(sin, [1, 1, 32, 1], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 8, 32, 128]
        sin = ttnn.reshape(sin, [1, 1, 256, 128], memory_config=ttnn.L1_MEMORY_CONFIG)  # [1, 1, 256, 128]
        return cos, sin

    def prefill_forward(self, position_ids):
        """A chunk of one user's prompt.

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
