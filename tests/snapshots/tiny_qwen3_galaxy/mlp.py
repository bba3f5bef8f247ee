"""Mlp of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import ccl
from . import model_config as cfg


class Qwen3MLP:
    """model.layers.N.mlp.

    gate_proj: [5120, 800] bfloat8_b, outputs split over mesh axes 0 and 1
    up_proj: [5120, 800] bfloat8_b, outputs split over mesh axes 0 and 1
    down_proj: [3200, 1280] bfloat8_b, inputs split over mesh axis 0, outputs split over mesh axis 1
    """

    def __init__(self, mesh_device, weights):
        self.gate_proj = weights.linear(
            "gate_proj.weight", mesh_dims=(3, 3), dtype=ttnn.bfloat8_b, memory_config=cfg.GATE_PROJ_WEIGHT_MEMORY
        )
        self.up_proj = weights.linear(
            "up_proj.weight", mesh_dims=(3, 3), dtype=ttnn.bfloat8_b, memory_config=cfg.UP_PROJ_WEIGHT_MEMORY
        )
        self.down_proj = weights.linear(
            "down_proj.weight", mesh_dims=(2, 3), dtype=ttnn.bfloat8_b, memory_config=cfg.DOWN_PROJ_WEIGHT_MEMORY
        )
        self.semaphores = weights.resources.two_semaphores()
        self.mesh_device = mesh_device
        self.gathered = weights.resources.persistent_output(
            [1, 1, 32, 3200], ttnn.bfloat16, memory_config=cfg.MLP_GATHERED_MEMORY
        )
        self.semaphore = weights.resources.global_semaphore()
        self.buffer = weights.resources.persistent_buffer(
            [1, 1, 32, 10240], ttnn.bfloat8_b, memory_config=cfg.MLP_BUFFER_MEMORY
        )

    def decode_forward(self, hidden_states):
        """One token for every user.

        hidden_states: [1, 1, 32, 5120] bfloat16
        """
        gate = ttnn.linear(
            hidden_states,
            self.gate_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.GATE_PROJ_DECODE_PROGRAM,
            memory_config=cfg.MLP_GATE_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 800]
        up = ttnn.linear(
            hidden_states,
            self.up_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.UP_PROJ_DECODE_PROGRAM,
            memory_config=cfg.MLP_UP_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 800]
        hidden_states = ttnn.multiply(
            gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU], memory_config=cfg.MLP_HIDDEN_STATES_MEMORY
        )  # [1, 1, 32, 800]
        hidden_states = ttnn.experimental.all_gather_async(
            hidden_states,
            3,
            cluster_axis=1,
            mesh_device=self.mesh_device,
            topology=ttnn.Topology.Ring,
            multi_device_global_semaphore=self.semaphores.next(),
            persistent_output_tensor=self.gathered.next(),
            memory_config=cfg.MLP_HIDDEN_STATES_GATHERED_MEMORY,
            num_links=4,
        )  # [1, 1, 32, 3200]
        down = ttnn.linear(
            hidden_states,
            self.down_proj,
            dtype=ttnn.bfloat8_b,
            program_config=cfg.DOWN_PROJ_DECODE_PROGRAM,
            memory_config=cfg.MLP_DOWN_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 1280]
        down = ttnn.experimental.all_reduce_async(
            down,
            buffer_tensor=self.buffer.next(),
            cluster_axis=0,
            mesh_device=self.mesh_device,
            multi_device_global_semaphore=self.semaphore.next(),
            dtype=ttnn.bfloat16,
            memory_config=cfg.MLP_DOWN_REDUCED_MEMORY,
            topology=ttnn.Topology.Ring,
            num_links=4,
        )  # [1, 1, 32, 1280]
        return down

    def prefill_forward(self, hidden_states):
        """A chunk of one user's prompt.

        hidden_states: [1, 1, 256, 5120] bfloat16, dim 2 split over mesh axis 0
        """
        hidden_states = ccl.all_gather(
            hidden_states, 2, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 2048, 5120]
        gate = ttnn.linear(
            hidden_states,
            self.gate_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.GATE_PROJ_PREFILL_PROGRAM,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 2048, 800]
        up = ttnn.linear(
            hidden_states,
            self.up_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.UP_PROJ_PREFILL_PROGRAM,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 2048, 800]
        hidden_states = ttnn.multiply(
            gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU], memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 2048, 800]
        hidden_states = ccl.all_gather(
            hidden_states, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 2048, 3200]
        down = ttnn.linear(
            hidden_states,
            self.down_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.DOWN_PROJ_PREFILL_PROGRAM,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 2048, 1280]
        down = ccl.reduce_scatter(down, 2, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 256, 1280]
        return down

    def short_prefill_forward(self, hidden_states):
        """A short chunk of one user's prompt.

        hidden_states: [1, 1, seq_len, 5120] bfloat16
        """
        seq_len = hidden_states.shape[2]
        gate = ttnn.linear(
            hidden_states,
            self.gate_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.GATE_PROJ_SHORT_PREFILL_PROGRAM[seq_len],
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, seq_len, 800]
        up = ttnn.linear(
            hidden_states,
            self.up_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.UP_PROJ_SHORT_PREFILL_PROGRAM[seq_len],
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, seq_len, 800]
        hidden_states = ttnn.multiply(
            gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU], memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, seq_len, 800]
        hidden_states = ccl.all_gather(
            hidden_states, 3, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, seq_len, 3200]
        down = ttnn.linear(
            hidden_states,
            self.down_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.DOWN_PROJ_SHORT_PREFILL_PROGRAM[seq_len],
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, seq_len, 1280]
        down = ccl.all_reduce(down, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 1280]
        return down
