"""Norm of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import ccl
from . import model_config as cfg


class Qwen3RMSNorm:
    """model.layers.N.input_layernorm.

    weight: [40, 32] bfloat16, dim 2 split over mesh axis 1
    """

    def __init__(self, mesh_device, weights):
        self.weight = weights.norm("weight", mesh_dims=(None, 2))
        self.semaphore = weights.resources.global_semaphore()
        self.mesh_device = mesh_device
        self.stats = weights.resources.persistent_buffer(
            [1, 1, 32, 128], ttnn.float32, memory_config=cfg.NORM_STATS_MEMORY
        )

    def decode_forward(self, hidden_states):
        """One token for every user.

        hidden_states: [1, 1, 32, 1280] bfloat16, dim 3 split over mesh axis 1
        """
        hidden_states = ttnn.fused_rms_minimal(
            hidden_states,
            program_config=cfg.NORM_DECODE_PROGRAM,
            cluster_axis=1,
            mesh_device=self.mesh_device,
            global_semaphore=self.semaphore.next(),
            topology=ttnn.Topology.Ring,
            num_links=1,
            epsilon=cfg.NORM_EPS,
            weight=self.weight,
            stats=self.stats.next(),
            memory_config=cfg.NORM_HIDDEN_STATES_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 32, 1280]
        return hidden_states

    def prefill_forward(self, hidden_states):
        """A chunk of one user's prompt.

        hidden_states: [1, 1, 256, 1280] bfloat16, dim 2 split over mesh axis 0, dim 3 split over mesh axis 1
        """
        stats = ttnn.rms_norm_pre_all_gather(
            hidden_states,
            dtype=ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 256, 32]
        stats = ccl.all_gather(stats, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 256, 128]
        hidden_states = ttnn.rms_norm_post_all_gather(
            hidden_states,
            stats,
            epsilon=cfg.NORM_EPS,
            weight=self.weight,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 256, 1280]
        return hidden_states

    def short_prefill_forward(self, hidden_states):
        """A short chunk of one user's prompt.

        hidden_states: [1, 1, seq_len, 1280] bfloat16, dim 3 split over mesh axis 1
        """
        stats = ttnn.rms_norm_pre_all_gather(
            hidden_states,
            dtype=ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, seq_len, 32]
        stats = ccl.all_gather(stats, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 128]
        hidden_states = ttnn.rms_norm_post_all_gather(
            hidden_states,
            stats,
            epsilon=cfg.NORM_EPS,
            weight=self.weight,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, seq_len, 1280]
        return hidden_states


class Qwen3RMSNormGathered:
    """model.layers.N.post_attention_layernorm.

    weight_in_tiles: [5120] bfloat16
    weight: [160, 32] bfloat16
    """

    def __init__(self, mesh_device, weights):
        self.weight_in_tiles = weights.norm_in_tiles("weight")
        self.weight = weights.norm("weight")
        self.semaphores = weights.resources.two_semaphores()
        self.mesh_device = mesh_device
        self.gathered = weights.resources.persistent_output(
            [1, 1, 32, 5120], ttnn.bfloat16, memory_config=cfg.NORM_GATHERED_GATHERED_MEMORY
        )

    def decode_forward(self, hidden_states):
        """One token for every user.

        hidden_states: [1, 1, 32, 1280] bfloat16, dim 3 split over mesh axis 1
        """
        hidden_states = ttnn.experimental.all_gather_async(
            hidden_states,
            3,
            cluster_axis=1,
            mesh_device=self.mesh_device,
            topology=ttnn.Topology.Ring,
            multi_device_global_semaphore=self.semaphores.next(),
            persistent_output_tensor=self.gathered.next(),
            memory_config=cfg.NORM_GATHERED_HIDDEN_STATES_GATHERED_MEMORY,
            num_links=4,
        )  # [1, 1, 32, 5120]
        hidden_states = ttnn.rms_norm(
            hidden_states,
            epsilon=cfg.NORM_EPS,
            weight=self.weight,
            program_config=cfg.NORM_GATHERED_DECODE_PROGRAM,
            memory_config=cfg.NORM_GATHERED_HIDDEN_STATES_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 32, 5120]
        return hidden_states

    def prefill_forward(self, hidden_states):
        """A chunk of one user's prompt.

        hidden_states: [1, 1, 256, 1280] bfloat16, dim 2 split over mesh axis 0, dim 3 split over mesh axis 1
        """
        hidden_states = ccl.all_gather(
            hidden_states, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 256, 5120]
        hidden_states = ttnn.rms_norm(
            hidden_states,
            epsilon=cfg.NORM_EPS,
            weight=self.weight_in_tiles,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 256, 5120]
        return hidden_states

    def short_prefill_forward(self, hidden_states):
        """A short chunk of one user's prompt.

        hidden_states: [1, 1, seq_len, 1280] bfloat16, dim 3 split over mesh axis 1
        """
        hidden_states = ccl.all_gather(
            hidden_states, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, seq_len, 5120]
        hidden_states = ttnn.rms_norm(
            hidden_states,
            epsilon=cfg.NORM_EPS,
            weight=self.weight_in_tiles,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, seq_len, 5120]
        return hidden_states


class Qwen3RMSNormNorm:
    """model.norm.

    weight_in_tiles: [5120] bfloat16
    weight: [160, 32] bfloat16
    """

    def __init__(self, mesh_device, weights):
        self.weight_in_tiles = weights.norm_in_tiles("weight")
        self.weight = weights.norm("weight")

    def decode_forward(self, hidden_states):
        """One token for every user.

        hidden_states: [1, 1, 32, 1280] bfloat16, dim 3 split over mesh axis 1
        """
        hidden_states = ccl.all_gather(
            hidden_states, 3, cluster_axis=1, memory_config=cfg.NORM_NORM_HIDDEN_STATES_GATHERED_MEMORY
        )  # [1, 1, 32, 5120]
        hidden_states = ttnn.rms_norm(
            hidden_states,
            epsilon=cfg.NORM_EPS,
            weight=self.weight,
            program_config=cfg.NORM_NORM_DECODE_PROGRAM,
            memory_config=cfg.NORM_NORM_HIDDEN_STATES_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 32, 5120]
        return hidden_states

    def prefill_forward(self, hidden_states):
        """A chunk of one user's prompt.

        hidden_states: [1, 1, 32, 1280] bfloat16, dim 3 split over mesh axis 1
        """
        hidden_states = ccl.all_gather(
            hidden_states, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 32, 5120]
        hidden_states = ttnn.rms_norm(
            hidden_states,
            epsilon=cfg.NORM_EPS,
            weight=self.weight_in_tiles,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 32, 5120]
        return hidden_states

    def short_prefill_forward(self, hidden_states):
        """A short chunk of one user's prompt.

        hidden_states: [1, 1, 32, 1280] bfloat16, dim 3 split over mesh axis 1
        """
        hidden_states = ccl.all_gather(
            hidden_states, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 32, 5120]
        hidden_states = ttnn.rms_norm(
            hidden_states,
            epsilon=cfg.NORM_EPS,
            weight=self.weight_in_tiles,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 32, 5120]
        return hidden_states
