"""Sizes, mesh, memory and program configurations of tiny_qwen3_galaxy on galaxy, batch 32.

Emitted by fx2ttnn. Shapes are those of one chip; `mesh_dims` say which dim each mesh axis (rows, columns) splits.
"""

import ttnn

MODEL_NAME = "tiny_qwen3_galaxy"
TARGET = "galaxy"
MESH_SHAPE = (8, 4)
RING = True  # the mesh axes close on a torus

BATCH = 32  # users of a decode step
ROWS = 32  # rows of a decode step: a whole tile; those beyond BATCH idle
MAX_SEQ_LEN = 4096
PAGE_SIZE = 64  # tokens of a page of the KV cache
PAGES_PER_USER = 64
USER_GROUPS = 4  # groups of chips, each of which attends for its own users
USERS_PER_GROUP = 8
PAGES_PER_GROUP = 512  # pages of its users; where there are several groups, spare pages follow
PREFILL_LENGTHS = (128, 512, 2048)  # tokens of a chunk of a prompt; shorter ones are padded, longer ones split
# For prompts run from their first token on: groups of chips divide a chunk's tokens, and those that do not keep the user's pages have what such chunks leave in spare pages.
WHOLE_PROMPT_LENGTHS = (2048,)
NUM_LAYERS = 64
VOCAB_SIZE = 16384
NORM_EPS = 1e-06
NUM_HEADS = 8  # of queries, on one chip
NUM_KV_HEADS = 1  # of keys and values, on one chip
ATTENTION_SCALE = 0.0883883461356163  # of query x key

PRECISION = "performance"
PCC = 0.99  # every module against Hugging Face's in float32


def cores(rectangles):
    """Rectangles of cores: (first, last) of each."""
    return ttnn.CoreRangeSet(
        [ttnn.CoreRange(ttnn.CoreCoord(*first), ttnn.CoreCoord(*last)) for first, last in rectangles]
    )


def sharded(kind, buffer, shard, rectangles):
    """Memory configuration with shards of `shard` elements over rectangles of cores."""
    spec = ttnn.ShardSpec(cores(rectangles), shard, ttnn.ShardOrientation.ROW_MAJOR)
    return ttnn.MemoryConfig(kind, buffer, spec)


RESIDUAL_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 64), [((0, 0), (4, 3))]
)  # 32 x 1280
EMBED_TOKENS_HIDDEN_STATES_MEMORY = RESIDUAL_MEMORY
NORM_STATS_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (0, 0))]
)  # 32 x 128
NORM_DECODE_PROGRAM = ttnn.LayerNormShardedMultiCoreProgramConfig(
    compute_with_storage_grid_size=(5, 4), subblock_w=2, block_h=1, block_w=2, inplace=False
)  # [1, 1, 32, 1280] -> [1, 1, 32, 1280]
NORM_HIDDEN_STATES_MEMORY = RESIDUAL_MEMORY
COMPUTE_HIFI3 = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi3, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True
)
QKV_PROJ_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (1280, 128), [((0, 0), (11, 0))]
)  # 1280 x 1536
O_PROJ_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (1024, 128), [((0, 0), (11, 0))]
)  # 1024 x 1536
ATTENTION_BUFFER_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 256), [((0, 0), (4, 3))]
)  # 32 x 5120
ATTENTION_GATHERED_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (7, 3))]
)  # 1024 x 128
ATTENTION_BUFFER_2_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 512), [((0, 0), (4, 3))]
)  # 32 x 10240
QKV_PROJ_DECODE_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
    in0_block_w=2, per_core_M=1, per_core_N=2
)  # [1, 1, 32, 1280] -> [1, 1, 32, 1280]
ATTENTION_QKV_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 64), [((0, 0), (7, 1)), ((0, 2), (3, 2))]
)  # 32 x 1280
COMPUTE_HIFI2 = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi2, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True
)
ATTENTION_QKV_REDUCED_MEMORY = RESIDUAL_MEMORY
ATTENTION_QKV_FINAL_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (7, 2))]
)  # 768 x 128
ATTENTION_QUERY_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (7, 0))]
)  # 256 x 128
ATTENTION_KEY_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 1), (7, 1))]
)  # 256 x 128
ATTENTION_ATTN_OUTPUT_MEMORY = ATTENTION_QUERY_MEMORY
ATTENTION_DECODE_PROGRAM = ttnn.SDPAProgramConfig(
    compute_with_storage_grid_size=(8, 9), q_chunk_size=0, k_chunk_size=0, exp_approx_mode=False
)  # [1, 8, 8, 128] -> [1, 8, 8, 128]
ATTENTION_ATTN_OUTPUT_GATHERED_MEMORY = ATTENTION_GATHERED_MEMORY
O_PROJ_DECODE_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
    in0_block_w=4, per_core_M=1, per_core_N=5
)  # [1, 1, 32, 1024] -> [1, 1, 32, 1280]
ATTENTION_O_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 160), [((0, 0), (7, 0))]
)  # 32 x 1280
ATTENTION_O_REDUCED_MEMORY = RESIDUAL_MEMORY
QKV_PROJ_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(8, 9),
    in0_block_w=8,
    out_subblock_h=4,
    out_subblock_w=1,
    out_block_h=8,
    out_block_w=5,
    per_core_M=8,
    per_core_N=5,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 2048, 1280] -> [1, 1, 2048, 1280]
ATTENTION_PREFILL_PROGRAM = ttnn.SDPAProgramConfig(
    compute_with_storage_grid_size=(8, 9), q_chunk_size=64, k_chunk_size=256, exp_approx_mode=False
)  # [1, 8, 512, 128] -> [1, 8, 512, 128]
O_PROJ_PREFILL_PROGRAM = QKV_PROJ_PREFILL_PROGRAM
QKV_PROJ_SHORT_PREFILL_PROGRAM = {
    128: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=8,
        out_subblock_h=1,
        out_subblock_w=1,
        out_block_h=1,
        out_block_w=5,
        per_core_M=1,
        per_core_N=5,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
    512: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=8,
        out_subblock_h=2,
        out_subblock_w=1,
        out_block_h=2,
        out_block_w=5,
        per_core_M=2,
        per_core_N=5,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
}  # [1, 1, seq_len, 1280] -> [1, 1, seq_len, 1280]
ATTENTION_SHORT_PREFILL_PROGRAM = {
    128: ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(8, 9), q_chunk_size=64, k_chunk_size=128, exp_approx_mode=False
    ),
    512: ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(8, 9), q_chunk_size=64, k_chunk_size=256, exp_approx_mode=False
    ),
}  # [1, 8, seq_len, 128] -> [1, 8, seq_len, 128]
O_PROJ_SHORT_PREFILL_PROGRAM = QKV_PROJ_SHORT_PREFILL_PROGRAM
NORM_GATHERED_GATHERED_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 160), [((0, 0), (7, 3))]
)  # 32 x 5120
NORM_GATHERED_HIDDEN_STATES_GATHERED_MEMORY = NORM_GATHERED_GATHERED_MEMORY
NORM_GATHERED_DECODE_PROGRAM = ttnn.LayerNormShardedMultiCoreProgramConfig(
    compute_with_storage_grid_size=(8, 4), subblock_w=1, block_h=1, block_w=5, inplace=False
)  # [1, 1, 32, 5120] -> [1, 1, 32, 5120]
NORM_GATHERED_HIDDEN_STATES_MEMORY = NORM_GATHERED_GATHERED_MEMORY
GATE_PROJ_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (5120, 96), [((0, 0), (11, 0))]
)  # 5120 x 1152
UP_PROJ_WEIGHT_MEMORY = GATE_PROJ_WEIGHT_MEMORY
DOWN_PROJ_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (3200, 128), [((0, 0), (11, 0))]
)  # 3200 x 1536
MLP_GATHERED_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (4, 4))]
)  # 32 x 3200
MLP_BUFFER_MEMORY = ATTENTION_BUFFER_2_MEMORY
GATE_PROJ_DECODE_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
    in0_block_w=5, per_core_M=1, per_core_N=1
)  # [1, 1, 32, 5120] -> [1, 1, 32, 800]
MLP_GATE_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 32), [((0, 0), (7, 2)), ((0, 3), (0, 3))]
)  # 32 x 800
UP_PROJ_DECODE_PROGRAM = GATE_PROJ_DECODE_PROGRAM
MLP_UP_MEMORY = MLP_GATE_MEMORY
MLP_HIDDEN_STATES_MEMORY = MLP_GATE_MEMORY
MLP_HIDDEN_STATES_GATHERED_MEMORY = MLP_GATHERED_MEMORY
DOWN_PROJ_DECODE_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
    in0_block_w=4, per_core_M=1, per_core_N=2
)  # [1, 1, 32, 3200] -> [1, 1, 32, 1280]
MLP_DOWN_MEMORY = ATTENTION_QKV_MEMORY
MLP_DOWN_REDUCED_MEMORY = RESIDUAL_MEMORY
GATE_PROJ_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(8, 9),
    in0_block_w=8,
    out_subblock_h=1,
    out_subblock_w=4,
    out_block_h=8,
    out_block_w=4,
    per_core_M=8,
    per_core_N=4,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 2048, 5120] -> [1, 1, 2048, 800]
UP_PROJ_PREFILL_PROGRAM = GATE_PROJ_PREFILL_PROGRAM
DOWN_PROJ_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(8, 9),
    in0_block_w=5,
    out_subblock_h=4,
    out_subblock_w=1,
    out_block_h=8,
    out_block_w=5,
    per_core_M=8,
    per_core_N=5,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 2048, 3200] -> [1, 1, 2048, 1280]
GATE_PROJ_SHORT_PREFILL_PROGRAM = {
    128: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=8,
        out_subblock_h=1,
        out_subblock_w=4,
        out_block_h=1,
        out_block_w=4,
        per_core_M=1,
        per_core_N=4,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
    512: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=8,
        out_subblock_h=1,
        out_subblock_w=4,
        out_block_h=2,
        out_block_w=4,
        per_core_M=2,
        per_core_N=4,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
}  # [1, 1, seq_len, 5120] -> [1, 1, seq_len, 800]
UP_PROJ_SHORT_PREFILL_PROGRAM = GATE_PROJ_SHORT_PREFILL_PROGRAM
DOWN_PROJ_SHORT_PREFILL_PROGRAM = {
    128: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=5,
        out_subblock_h=1,
        out_subblock_w=1,
        out_block_h=1,
        out_block_w=5,
        per_core_M=1,
        per_core_N=5,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
    512: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=5,
        out_subblock_h=2,
        out_subblock_w=1,
        out_block_h=2,
        out_block_w=5,
        per_core_M=2,
        per_core_N=5,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
}  # [1, 1, seq_len, 3200] -> [1, 1, seq_len, 1280]
NORM_NORM_HIDDEN_STATES_GATHERED_MEMORY = NORM_GATHERED_GATHERED_MEMORY
NORM_NORM_DECODE_PROGRAM = NORM_GATHERED_DECODE_PROGRAM
NORM_NORM_HIDDEN_STATES_MEMORY = NORM_GATHERED_GATHERED_MEMORY
LM_HEAD_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (5120, 64), [((0, 0), (11, 0))]
)  # 5120 x 768
LM_HEAD_DECODE_PROGRAM = GATE_PROJ_DECODE_PROGRAM
LM_HEAD_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 32), [((0, 0), (7, 1))]
)  # 32 x 512
LM_HEAD_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(8, 9),
    in0_block_w=8,
    out_subblock_h=1,
    out_subblock_w=2,
    out_block_h=1,
    out_block_w=2,
    per_core_M=1,
    per_core_N=2,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 32, 5120] -> [1, 1, 32, 512]
LM_HEAD_SHORT_PREFILL_PROGRAM = LM_HEAD_PREFILL_PROGRAM
SAMPLE_CORES = cores(rectangles=(((0, 0), (7, 3)),))
ATTENTION_QKV_REDUCED_MEMORY_2 = ATTENTION_QUERY_MEMORY
ATTENTION_QKV_REDUCED_MEMORY_3 = ATTENTION_KEY_MEMORY
ATTENTION_QKV_REDUCED_MEMORY_4 = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 2), (7, 2))]
)  # 256 x 128
ATTENTION_ATTN_OUTPUT_CONCAT_HEADS_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (7, 0))]
)  # 32 x 1024
LOGITS_MEMORY = LM_HEAD_MEMORY
