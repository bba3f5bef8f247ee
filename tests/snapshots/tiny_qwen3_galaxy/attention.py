"""Attention of the model, one chip's share. Shapes in comments are those of one chip."""

import ttnn

from . import ccl
from . import model_config as cfg


class Qwen3Attention:
    """model.layers.N.self_attn."""

    def __init__(self, mesh_device, weights):
        self.qkv_proj = weights.linear(
            ["q_proj.weight", "k_proj.weight", "v_proj.weight"],
            parts=8,
            mesh_dims=(3, 2),
            dtype=ttnn.bfloat8_b,
            memory_config=cfg.DRAM_1280X1536,
        )
        self.q_norm = weights.norm("q_norm.weight")
        self.k_norm = weights.norm("k_norm.weight")
        self.o_proj = weights.linear(
            "o_proj.weight", mesh_dims=(2, 3), dtype=ttnn.bfloat8_b, memory_config=cfg.DRAM_1024X1536
        )
        self.first_user = weights.first_user(batch=32, mesh_dims=(None, 0))

    def decode_forward(self, hidden_states, cos, sin, key_cache, value_cache, current_pos, page_table):
        """One token for every user."""
        qkv = ttnn.linear(
            hidden_states,
            self.qkv_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.LINEAR_1280X1280,
            memory_config=cfg.WIDTH_SHARDED_1280_ON_8X2_4X1,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 1280]
        qkv = ccl.all_reduce(qkv, cluster_axis=1, memory_config=cfg.WIDTH_SHARDED_1280_ON_5X4)  # [1, 1, 32, 1280]
        query, key, value = ttnn.experimental.nlp_create_qkv_heads_decode(
            qkv,
            num_heads=8,
            num_kv_heads=1,
            batch_offset=self.first_user,
            slice_size=8,
            memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
        )  # [1, 8, 8, 128], [1, 8, 1, 128], [1, 8, 1, 128]
        query = ttnn.to_memory_config(query, ttnn.L1_MEMORY_CONFIG)  # [1, 8, 8, 128]
        query = ttnn.rms_norm(
            query,
            epsilon=1e-06,
            weight=self.q_norm,
            memory_config=ttnn.L1_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI4,
        )  # [1, 8, 8, 128]
        key = ttnn.to_memory_config(key, ttnn.L1_MEMORY_CONFIG)  # [1, 8, 1, 128]
        key = ttnn.rms_norm(
            key,
            epsilon=1e-06,
            weight=self.k_norm,
            memory_config=ttnn.L1_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI4,
        )  # [1, 8, 1, 128]
        query = ttnn.to_memory_config(query, cfg.HEIGHT_SHARDED_8X32X128)  # [1, 8, 8, 128]
        query = ttnn.experimental.rotary_embedding_hf(query, cos, sin, is_decode_mode=True)  # [1, 8, 8, 128]
        key = ttnn.to_memory_config(key, cfg.HEIGHT_SHARDED_8X32X128)  # [1, 8, 1, 128]
        key = ttnn.experimental.rotary_embedding_hf(key, cos, sin, is_decode_mode=True)  # [1, 8, 1, 128]
        ttnn.experimental.paged_update_cache(key_cache, key, update_idxs_tensor=current_pos, page_table=page_table)
        ttnn.experimental.paged_update_cache(value_cache, value, update_idxs_tensor=current_pos, page_table=page_table)
        attn_output = ttnn.transformer.paged_scaled_dot_product_attention_decode(
            query,
            key_cache,
            value_cache,
            page_table,
            cur_pos_tensor=current_pos,
            scale=0.08838834764831845,
            memory_config=cfg.HEIGHT_SHARDED_8X32X128,
            compute_kernel_config=cfg.COMPUTE_HIFI4,
        )  # [1, 8, 8, 128]
        attn_output = ccl.all_gather(
            attn_output, 1, cluster_axis=1, memory_config=cfg.HEIGHT_SHARDED_32X32X128
        )  # [1, 32, 8, 128]
        attn_output = ttnn.experimental.nlp_concat_heads_decode(attn_output, num_heads=8)  # [1, 1, 32, 1024]
        o = ttnn.linear(
            attn_output,
            self.o_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.LINEAR_1024X1280,
            memory_config=cfg.WIDTH_SHARDED_1280_ON_8X1,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, 32, 1280]
        o = ccl.all_reduce(o, cluster_axis=0, memory_config=cfg.WIDTH_SHARDED_1280_ON_5X4)  # [1, 1, 32, 1280]
        return o

    def prefill_forward(
        self, hidden_states, cos, sin, key_cache, value_cache, chunk_page_table, page_table, chunk_start
    ):
        """A chunk of one user's prompt."""
        seq_len = hidden_states.shape[2]
        qkv = ttnn.linear(
            hidden_states,
            self.qkv_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.PREFILL_LINEAR_1280X1280[seq_len],
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, seq_len, 1280]
        qkv = ccl.all_reduce(qkv, cluster_axis=1, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 1280]
        query, key, value = ttnn.experimental.nlp_create_qkv_heads(
            qkv, num_heads=8, num_kv_heads=1, transpose_k_heads=False, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 8, seq_len, 128], [1, 1, seq_len, 128], [1, 1, seq_len, 128]
        query = ttnn.rms_norm(
            query,
            epsilon=1e-06,
            weight=self.q_norm,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI4,
        )  # [1, 8, seq_len, 128]
        key = ttnn.rms_norm(
            key,
            epsilon=1e-06,
            weight=self.k_norm,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI4,
        )  # [1, 1, seq_len, 128]
        query = ttnn.experimental.rotary_embedding_hf(
            query, cos, sin, is_decode_mode=False, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 8, seq_len, 128]
        key = ttnn.experimental.rotary_embedding_hf(
            key, cos, sin, is_decode_mode=False, memory_config=ttnn.DRAM_MEMORY_CONFIG
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
            scale=0.0883883461356163,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            program_config=cfg.PREFILL_ATTENTION_128[seq_len],
            compute_kernel_config=cfg.COMPUTE_HIFI4,
        )  # [1, 8, seq_len, 128]
        attn_output = ttnn.experimental.nlp_concat_heads(
            attn_output, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, seq_len, 1024]
        o = ttnn.linear(
            attn_output,
            self.o_proj,
            dtype=ttnn.bfloat16,
            program_config=cfg.PREFILL_LINEAR_1280X1280[seq_len],
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            compute_kernel_config=cfg.COMPUTE_HIFI2,
        )  # [1, 1, seq_len, 1280]
        o = ccl.all_reduce(o, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG)  # [1, 1, seq_len, 1280]
        return o
