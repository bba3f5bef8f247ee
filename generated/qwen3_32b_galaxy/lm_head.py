"""Lm head of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import model_config as cfg


class LmHead:
    """lm_head.

    weight: [5120, 4748] bfloat8_b, outputs split over mesh axes 0 and 1
    """

    def __init__(self, mesh_device, weights):
        self.weight = weights.linear(
            "weight", mesh_dims=(3, 3), dtype=ttnn.bfloat8_b, memory_config=cfg.LM_HEAD_WEIGHT_MEMORY
        )

    def decode_forward(self, hidden_states):
        """One token for every user.

        hidden_states: [1, 1, 32, 5120] bfloat16
        """
        lm_head = ttnn.linear(
            hidden_states,
            self.weight,
            dtype=ttnn.bfloat16,
            program_config=cfg.LM_HEAD_DECODE_PROGRAM,
            memory_config=cfg.LM_HEAD_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 4748]
        return lm_head

    def prefill_forward(self, hidden_states):
        """A chunk of one user's prompt.

        hidden_states: [1, 1, 32, 5120] bfloat16
        """
        lm_head = ttnn.linear(
            hidden_states,
            self.weight,
            dtype=ttnn.bfloat16,
            program_config=cfg.LM_HEAD_PREFILL_PROGRAM,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 4748]
        return lm_head

    def short_prefill_forward(self, hidden_states):
        """A short chunk of one user's prompt.

        hidden_states: [1, 1, 32, 5120] bfloat16
        """
        lm_head = ttnn.linear(
            hidden_states,
            self.weight,
            dtype=ttnn.bfloat16,
            program_config=cfg.LM_HEAD_SHORT_PREFILL_PROGRAM,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 4748]
        return lm_head
