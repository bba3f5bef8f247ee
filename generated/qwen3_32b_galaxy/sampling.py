"""Sampling of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import ccl
from . import model_config as cfg


class Sampler:
    """Chooses a token for every row of logits: the best one, or one of the best by chance."""

    def __init__(self, mesh_device, weights):
        self.first_token = weights.first_token(width=4748, mesh_dims=(3, 3))

    def sample_forward(self, logits, k, p, inverse_temperature):
        """A token for every row of logits.

        logits: [1, 1, 32, 4748] bfloat16, dim 3 split over mesh axes 0 and 1
        k: [32] uint32
        p: [32] bfloat16
        inverse_temperature: [32] bfloat16
        """
        logits = ttnn.to_memory_config(logits, ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 32, 4748]
        logits = ttnn.pad(
            logits, [1, 1, 32, 8192], [0, 0, 0, 0], -3e38, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 32, 8192]
        values, columns = ttnn.topk(
            logits, 32, dim=-1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 32, 32], [1, 1, 32, 32]
        columns = ttnn.typecast(columns, ttnn.uint32, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 32, 32]
        tokens = ttnn.add(columns, self.first_token, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 32, 32]
        values = ccl.all_gather(values, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 32, 128]
        tokens = ccl.all_gather(tokens, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 32, 128]
        values = ccl.all_gather(values, 3, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 32, 1024]
        tokens = ccl.all_gather(tokens, 3, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 32, 1024]
        tokens = ttnn.to_layout(tokens, ttnn.ROW_MAJOR_LAYOUT)  # [1, 1, 32, 1024]
        next_tokens = ttnn.sampling(
            values, tokens, k, p, inverse_temperature, sub_core_grids=cfg.SAMPLE_CORES
        )  # [1, 1, 1, 32]
        return next_tokens
