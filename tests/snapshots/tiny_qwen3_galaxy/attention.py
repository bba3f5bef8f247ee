"""Attention of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import ccl
from . import model_config as cfg


class Qwen3Attention:
    """model.layers.N.self_attn.

    qkv_proj: [1280, 1280] bfloat8_b, outputs split over mesh axis 0, inputs split over mesh axis 1
    q_norm: [128] bfloat16
    k_norm: [128] bfloat16
    o_proj: [1024, 1280] bfloat8_b, inputs split over mesh axis 0, outputs split over mesh axis 1
    """

    def __init__(self, mesh_device, weights):
        self.qkv_proj = weights.linear(
            ["q_proj.weight", "k_proj.weight", "v_proj.weight"],
            parts=8,
            orders=[[128, 128, "halves, side by side", 128], [128, 128, "halves, side by side", 128], None],
            mesh_dims=(3, 2),
            dtype=ttnn.bfloat8_b,
            memory_config=cfg.QKV_PROJ_WEIGHT_MEMORY,
        )
        self.q_norm = weights.norm_in_tiles("q_norm.weight", order=[128, 128, "halves, side by side", 128])
        self.k_norm = weights.norm_in_tiles("k_norm.weight", order=[128, 128, "halves, side by side", 128])
        self.o_proj = weights.linear(
            "o_proj.weight", mesh_dims=(2, 3), dtype=ttnn.bfloat8_b, memory_config=cfg.O_PROJ_WEIGHT_MEMORY
        )
        self.first_user = weights.first_user(batch=32, mesh_dims=(None, 0))
        self.mesh_device = mesh_device
        self.turn = weights.resources.quarter_turn()
        self.semaphore = weights.resources.global_semaphore()
        self.buffer = weights.resources.persistent_buffer(
            [1, 1, 32, 5120], ttnn.bfloat8_b, memory_config=cfg.ATTENTION_BUFFER_MEMORY
        )
        self.semaphores = weights.resources.two_semaphores()
        self.gathered = weights.resources.persistent_output(
            [1, 32, 8, 128], ttnn.bfloat16, memory_config=cfg.ATTENTION_GATHERED_MEMORY
        )
        self.buffer_2 = weights.resources.persistent_buffer(
            [1, 1, 32, 10240], ttnn.bfloat8_b, memory_config=cfg.ATTENTION_BUFFER_2_MEMORY
        )

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
        qkv = ttnn.linear(
            hidden_states,
            self.qkv_proj,
            dtype=ttnn.bfloat8_b,
            program_config=cfg.QKV_PROJ_DECODE_PROGRAM,
            memory_config=cfg.ATTENTION_QKV_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 1280]
        qkv, query, key, value = ttnn.experimental.all_reduce_create_qkv_heads(
            qkv,
            buffer_tensor=self.buffer.next(),
            batch_offset=self.first_user,
            cluster_axis=1,
            mesh_device=self.mesh_device,
            multi_device_global_semaphore=self.semaphore.next(),
            num_heads=cfg.NUM_HEADS,
            num_kv_heads=cfg.NUM_KV_HEADS,
            slice_size=8,
            memory_config=cfg.ATTENTION_QKV_REDUCED_MEMORY,
            final_memory_config=cfg.ATTENTION_QKV_FINAL_MEMORY,
            topology=ttnn.Topology.Ring,
            num_links=4,
            dtype=ttnn.bfloat16,
        )  # [1, 1, 32, 1280], [1, 8, 8, 128], [1, 8, 1, 128], [1, 8, 1, 128]
        query = ttnn.reshape(query, [1, 1, 256, 128], [1, 1, 256, 128])  # [1, 1, 256, 128]
        query = ttnn.experimental.dit_fused_distributed_rmsnorm(
            query,
            None,
            self.mesh_device,
            [],
            epsilon=cfg.NORM_EPS,
            weight=self.q_norm,
            transformation_mat=self.turn,
            rope_cos=cos,
            rope_sin=sin,
            memory_config=cfg.ATTENTION_QUERY_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 256, 128]
        query = ttnn.reshape(query, [1, 8, 8, 128], [1, 8, 32, 128])  # [1, 8, 8, 128]
        key = ttnn.reshape(key, [1, 1, 256, 128], [1, 1, 256, 128])  # [1, 1, 256, 128]
        key = ttnn.experimental.dit_fused_distributed_rmsnorm(
            key,
            None,
            self.mesh_device,
            [],
            epsilon=cfg.NORM_EPS,
            weight=self.k_norm,
            transformation_mat=self.turn,
            rope_cos=cos,
            rope_sin=sin,
            memory_config=cfg.ATTENTION_KEY_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 256, 128]
        key = ttnn.reshape(key, [1, 8, 1, 128], [1, 8, 32, 128])  # [1, 8, 1, 128]
        ttnn.experimental.paged_fused_update_cache(
            key_cache, key, value_cache, value, update_idxs_tensor=current_pos, page_table=page_table
        )
        attn_output = ttnn.transformer.paged_scaled_dot_product_attention_decode(
            query,
            key_cache,
            value_cache,
            page_table,
            cur_pos_tensor=current_pos,
            scale=cfg.ATTENTION_SCALE,
            memory_config=cfg.ATTENTION_ATTN_OUTPUT_MEMORY,
            program_config=cfg.ATTENTION_DECODE_PROGRAM,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 8, 8, 128]
        attn_output = ttnn.experimental.all_gather_async(
            attn_output,
            1,
            cluster_axis=1,
            mesh_device=self.mesh_device,
            topology=ttnn.Topology.Ring,
            multi_device_global_semaphore=self.semaphores.next(),
            persistent_output_tensor=self.gathered.next(),
            memory_config=cfg.ATTENTION_ATTN_OUTPUT_GATHERED_MEMORY,
            num_links=4,
        )  # [1, 32, 8, 128]
        attn_output = ttnn.experimental.nlp_concat_heads_decode(
            attn_output, num_heads=cfg.NUM_HEADS
        )  # [1, 1, 32, 1024]
        o = ttnn.linear(
            attn_output,
            self.o_proj,
            dtype=ttnn.bfloat8_b,
            program_config=cfg.O_PROJ_DECODE_PROGRAM,
            memory_config=cfg.ATTENTION_O_MEMORY,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 1280]
        o = ttnn.experimental.all_reduce_async(
            o,
            buffer_tensor=self.buffer_2.next(),
            cluster_axis=0,
            mesh_device=self.mesh_device,
            multi_device_global_semaphore=self.semaphore.next(),
            dtype=ttnn.bfloat16,
            memory_config=cfg.ATTENTION_O_REDUCED_MEMORY,
            topology=ttnn.Topology.Ring,
            num_links=4,
        )  # [1, 1, 32, 1280]
        return o

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
        hidden_states = ccl.all_gather(
            hidden_states, 2, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 2048, 1280]
        qkv = ttnn.linear(
            hidden_states,
            self.qkv_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.QKV_PROJ_PREFILL_PROGRAM,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 2048, 1280]
        qkv = ccl.reduce_scatter(qkv, 2, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 512, 1280]
        query, key, value = ttnn.experimental.nlp_create_qkv_heads(
            qkv,
            num_heads=cfg.NUM_HEADS,
            num_kv_heads=cfg.NUM_KV_HEADS,
            transpose_k_heads=False,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )  # [1, 8, 512, 128], [1, 1, 512, 128], [1, 1, 512, 128]
        query = ttnn.experimental.dit_fused_distributed_rmsnorm(
            query,
            None,
            self.mesh_device,
            [],
            epsilon=cfg.NORM_EPS,
            weight=self.q_norm,
            transformation_mat=self.turn,
            rope_cos=cos,
            rope_sin=sin,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 8, 512, 128]
        key = ttnn.experimental.dit_fused_distributed_rmsnorm(
            key,
            None,
            self.mesh_device,
            [],
            epsilon=cfg.NORM_EPS,
            weight=self.k_norm,
            transformation_mat=self.turn,
            rope_cos=cos,
            rope_sin=sin,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, 512, 128]
        key = ccl.all_gather(key, 2, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 2048, 128]
        value = ccl.all_gather(value, 2, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 2048, 128]
        key = ttnn.typecast(key, ttnn.bfloat8_b, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 2048, 128]
        ttnn.experimental.paged_fill_cache(key_cache, key, chunk_page_table, batch_idx=0)
        value = ttnn.typecast(value, ttnn.bfloat8_b, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 2048, 128]
        ttnn.experimental.paged_fill_cache(value_cache, value, chunk_page_table, batch_idx=0)
        attn_output = ttnn.transformer.chunked_scaled_dot_product_attention(
            query,
            key_cache,
            value_cache,
            page_table,
            chunk_start_idx_tensor=chunk_start,
            scale=cfg.ATTENTION_SCALE,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            program_config=cfg.ATTENTION_PREFILL_PROGRAM,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 8, 512, 128]
        attn_output = ttnn.experimental.nlp_concat_heads(
            attn_output, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 512, 1024]
        attn_output = ccl.all_gather(
            attn_output, 2, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 2048, 1024]
        o = ttnn.linear(
            attn_output,
            self.o_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.O_PROJ_PREFILL_PROGRAM,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 2048, 1280]
        o = ccl.reduce_scatter(o, 2, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, 256, 1280]
        return o

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
        seq_len = hidden_states.shape[2]
        qkv = ttnn.linear(
            hidden_states,
            self.qkv_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.QKV_PROJ_SHORT_PREFILL_PROGRAM[seq_len],
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, seq_len, 1280]
        qkv = ccl.all_reduce(qkv, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 1280]
        query, key, value = ttnn.experimental.nlp_create_qkv_heads(
            qkv,
            num_heads=cfg.NUM_HEADS,
            num_kv_heads=cfg.NUM_KV_HEADS,
            transpose_k_heads=False,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )  # [1, 8, seq_len, 128], [1, 1, seq_len, 128], [1, 1, seq_len, 128]
        query = ttnn.experimental.dit_fused_distributed_rmsnorm(
            query,
            None,
            self.mesh_device,
            [],
            epsilon=cfg.NORM_EPS,
            weight=self.q_norm,
            transformation_mat=self.turn,
            rope_cos=cos,
            rope_sin=sin,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 8, seq_len, 128]
        key = ttnn.experimental.dit_fused_distributed_rmsnorm(
            key,
            None,
            self.mesh_device,
            [],
            epsilon=cfg.NORM_EPS,
            weight=self.k_norm,
            transformation_mat=self.turn,
            rope_cos=cos,
            rope_sin=sin,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 1, seq_len, 128]
        key = ttnn.typecast(key, ttnn.bfloat8_b, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 128]
        ttnn.experimental.paged_fill_cache(key_cache, key, chunk_page_table, batch_idx=0)
        value = ttnn.typecast(value, ttnn.bfloat8_b, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 128]
        ttnn.experimental.paged_fill_cache(value_cache, value, chunk_page_table, batch_idx=0)
        attn_output = ttnn.transformer.chunked_scaled_dot_product_attention(
            query,
            key_cache,
            value_cache,
            page_table,
            chunk_start_idx_tensor=chunk_start,
            scale=cfg.ATTENTION_SCALE,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            program_config=cfg.ATTENTION_SHORT_PREFILL_PROGRAM[seq_len],
            compute_kernel_config=cfg.COMPUTE_HIFI3,
        )  # [1, 8, seq_len, 128]
        attn_output = ttnn.experimental.nlp_concat_heads(
            attn_output, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, seq_len, 1024]
        o = ttnn.linear(
            attn_output,
            self.o_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.O_PROJ_SHORT_PREFILL_PROGRAM[seq_len],
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, seq_len, 1280]
        o = ccl.all_reduce(o, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 1280]
        return o
