"""Sizes, mesh, memory and program configurations of qwen3-32b on galaxy, batch 32.

Emitted by fx2ttnn. Shapes are those of one chip; `mesh_dims` say which dim each mesh axis (rows, columns) splits.
"""

import ttnn

MODEL_NAME = "qwen3-32b"
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
VOCAB_SIZE = 151936
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


# Two sub-devices, so that cores which stream weights from DRAM run beside those that compute.
GRID = (7, 10)  # of a mesh whose dispatch cores are a column
SENDERS = [
    (0, 9),
    (0, 0),
    (0, 4),
    (0, 5),
    (4, 0),
    (4, 9),
    (4, 1),
    (4, 7),
    (4, 6),
    (4, 2),
    (4, 4),
    (4, 5),
]  # the core that streams each DRAM bank
RECEIVERS = 2  # cores behind a sender, in its row, that get the columns of its bank
WORKER_RECTANGLES = [((1, 0), (3, 9)), ((5, 0), (6, 9))]
WORKER_CORES = cores(WORKER_RECTANGLES)
WORKERS = ttnn.SubDeviceId(1)
RECEIVER_CORES = [((x + n, y),) * 2 for x, y in SENDERS for n in range(1, RECEIVERS + 1)]
# The same cores in the order in which they hand on their parts of a matmul's input: as the chip's wires run.
RING_CORES = [
    (core, core)
    for core in [
        (6, 6),
        (6, 7),
        (6, 9),
        (6, 0),
        (6, 1),
        (6, 2),
        (6, 4),
        (6, 5),
        (5, 5),
        (5, 6),
        (5, 7),
        (5, 9),
        (5, 0),
        (5, 1),
        (5, 2),
        (5, 4),
        (1, 4),
        (1, 5),
        (1, 9),
        (1, 0),
        (2, 0),
        (2, 4),
        (2, 5),
        (2, 9),
    ]
]
HOP_CORES = cores([((3, 6), (3, 6))])  # where the ring passes beside its cores
GLOBAL_CB_BYTES = 590000  # of each core's L1, where prefetched weights arrive


RESIDUAL_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 64), [((1, 0), (2, 9))]
)  # 32 x 1280
ROTARY_EMB_COS_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((1, 0), (3, 4)), ((1, 5), (1, 5))]
)  # 512 x 128
ROTARY_EMB_SIN_MEMORY = ROTARY_EMB_COS_MEMORY
EMBED_TOKENS_HIDDEN_STATES_MEMORY = RESIDUAL_MEMORY
NORM_STATS_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 128), [((1, 0), (1, 0))]
)  # 32 x 128
NORM_DECODE_PROGRAM = ttnn.LayerNormShardedMultiCoreProgramConfig(
    compute_with_storage_grid_size=(2, 10), subblock_w=2, block_h=1, block_w=2, inplace=False
)  # [1, 1, 32, 1280] -> [1, 1, 32, 1280]
NORM_HIDDEN_STATES_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 64), RING_CORES
)  # 32 x 1536
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
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 256), [((1, 0), (2, 9))]
)  # 32 x 5120
ATTENTION_TURNS_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 32), [((1, 0), (3, 4)), ((1, 5), (1, 5))]
)  # 512 x 32
ATTENTION_GATHERED_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((1, 0), (3, 9)), ((5, 0), (6, 0))]
)  # 1024 x 128
ATTENTION_BUFFER_2_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 512), [((1, 0), (2, 9))]
)  # 32 x 10240
QKV_PROJ_DECODE_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
    compute_with_storage_grid_size=(8, 3),
    in0_block_w=2,
    out_subblock_h=1,
    out_subblock_w=2,
    per_core_M=1,
    per_core_N=2,
    fuse_batch=True,
    fused_activation=None,
    mcast_in0=False,
    gather_in0=True,
    hop_cores=HOP_CORES,
    num_global_cb_receivers=2,
    untilize_out=False,
)  # [1, 1, 32, 1280] -> [1, 1, 32, 1280]
ATTENTION_QKV_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 64), RECEIVER_CORES
)  # 32 x 1536
COMPUTE_HIFI2 = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi2, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True
)
ATTENTION_QKV_REDUCED_MEMORY = RESIDUAL_MEMORY
ATTENTION_QKV_FINAL_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((1, 0), (3, 7))]
)  # 768 x 128
ATTENTION_QUERY_MEMORY = sharded(
    ttnn.TensorMemoryLayout.BLOCK_SHARDED, ttnn.BufferType.L1, (32, 128), [((1, 0), (1, 7))]
)  # 32 x 1024
Q_NORM_DECODE_PROGRAM = ttnn.LayerNormShardedMultiCoreProgramConfig(
    compute_with_storage_grid_size=(1, 8), subblock_w=4, block_h=1, block_w=4, inplace=False
)  # [1, 8, 8, 128] -> [1, 8, 8, 128]
ATTENTION_QUERY_RMS_NORM_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((1, 0), (3, 1)), ((1, 2), (2, 2))]
)  # 256 x 128
ATTENTION_KEY_MEMORY = ATTENTION_QUERY_MEMORY
K_NORM_DECODE_PROGRAM = Q_NORM_DECODE_PROGRAM
ATTENTION_KEY_RMS_NORM_MEMORY = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED,
    ttnn.BufferType.L1,
    (32, 128),
    [((3, 2), (3, 2)), ((1, 3), (3, 4)), ((1, 5), (1, 5))],
)  # 256 x 128
ATTENTION_ATTN_OUTPUT_MEMORY = ATTENTION_QUERY_RMS_NORM_MEMORY
ATTENTION_DECODE_PROGRAM = ttnn.SDPAProgramConfig(
    compute_with_storage_grid_size=(5, 10),
    q_chunk_size=0,
    k_chunk_size=0,
    exp_approx_mode=False,
    sub_core_grids=WORKER_CORES,
)  # [1, 8, 8, 128] -> [1, 8, 8, 128]
ATTENTION_ATTN_OUTPUT_GATHERED_MEMORY = ATTENTION_GATHERED_MEMORY
ATTENTION_ATTN_OUTPUT_RESHARD_MEMORY = NORM_HIDDEN_STATES_MEMORY
O_PROJ_DECODE_PROGRAM = QKV_PROJ_DECODE_PROGRAM
ATTENTION_O_MEMORY = ATTENTION_QKV_MEMORY
ATTENTION_O_REDUCED_MEMORY = RESIDUAL_MEMORY
QKV_PROJ_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(7, 10),
    in0_block_w=8,
    out_subblock_h=1,
    out_subblock_w=3,
    out_block_h=7,
    out_block_w=6,
    per_core_M=7,
    per_core_N=6,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 2048, 1280] -> [1, 1, 2048, 1280]
ATTENTION_PREFILL_PROGRAM = ttnn.SDPAProgramConfig(
    compute_with_storage_grid_size=(7, 10), q_chunk_size=64, k_chunk_size=256, exp_approx_mode=False
)  # [1, 8, 512, 128] -> [1, 8, 512, 128]
O_PROJ_PREFILL_PROGRAM = QKV_PROJ_PREFILL_PROGRAM
QKV_PROJ_SHORT_PREFILL_PROGRAM = {
    128: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(7, 10),
        in0_block_w=8,
        out_subblock_h=1,
        out_subblock_w=3,
        out_block_h=1,
        out_block_w=6,
        per_core_M=1,
        per_core_N=6,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
    512: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(7, 10),
        in0_block_w=8,
        out_subblock_h=2,
        out_subblock_w=2,
        out_block_h=2,
        out_block_w=6,
        per_core_M=2,
        per_core_N=6,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
}  # [1, 1, seq_len, 1280] -> [1, 1, seq_len, 1280]
ATTENTION_SHORT_PREFILL_PROGRAM = {
    128: ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(7, 10), q_chunk_size=64, k_chunk_size=128, exp_approx_mode=False
    ),
    512: ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(7, 10), q_chunk_size=64, k_chunk_size=256, exp_approx_mode=False
    ),
}  # [1, 8, seq_len, 128] -> [1, 8, seq_len, 128]
O_PROJ_SHORT_PREFILL_PROGRAM = QKV_PROJ_SHORT_PREFILL_PROGRAM
NORM_GATHERED_GATHERED_MEMORY = ATTENTION_BUFFER_MEMORY
NORM_GATHERED_HIDDEN_STATES_GATHERED_MEMORY = ATTENTION_BUFFER_MEMORY
NORM_GATHERED_DECODE_PROGRAM = ttnn.LayerNormShardedMultiCoreProgramConfig(
    compute_with_storage_grid_size=(2, 10), subblock_w=4, block_h=1, block_w=8, inplace=False
)  # [1, 1, 32, 5120] -> [1, 1, 32, 5120]
NORM_GATHERED_HIDDEN_STATES_MEMORY = ATTENTION_BUFFER_MEMORY
GATE_PROJ_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (5120, 128), [((0, 0), (11, 0))]
)  # 5120 x 1536
UP_PROJ_WEIGHT_MEMORY = GATE_PROJ_WEIGHT_MEMORY
DOWN_PROJ_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (3200, 128), [((0, 0), (11, 0))]
)  # 3200 x 1536
MLP_GATHERED_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 160), RING_CORES
)  # 32 x 3840
MLP_BUFFER_MEMORY = ATTENTION_BUFFER_2_MEMORY
MLP_HIDDEN_STATES_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 224), RING_CORES
)  # 32 x 5376
GATE_PROJ_DECODE_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
    compute_with_storage_grid_size=(8, 3),
    in0_block_w=5,
    out_subblock_h=1,
    out_subblock_w=2,
    per_core_M=1,
    per_core_N=2,
    fuse_batch=True,
    fused_activation=None,
    mcast_in0=False,
    gather_in0=True,
    hop_cores=HOP_CORES,
    num_global_cb_receivers=2,
    untilize_out=False,
)  # [1, 1, 32, 5120] -> [1, 1, 32, 800]
MLP_GATE_MEMORY = ATTENTION_QKV_MEMORY
UP_PROJ_DECODE_PROGRAM = GATE_PROJ_DECODE_PROGRAM
MLP_UP_MEMORY = ATTENTION_QKV_MEMORY
MLP_HIDDEN_STATES_GLU_MEMORY = ATTENTION_QKV_MEMORY
MLP_HIDDEN_STATES_GATHERED_MEMORY = MLP_GATHERED_MEMORY
DOWN_PROJ_DECODE_PROGRAM = GATE_PROJ_DECODE_PROGRAM
MLP_DOWN_MEMORY = ATTENTION_QKV_MEMORY
MLP_DOWN_REDUCED_MEMORY = RESIDUAL_MEMORY
GATE_PROJ_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(7, 10),
    in0_block_w=8,
    out_subblock_h=1,
    out_subblock_w=4,
    out_block_h=7,
    out_block_w=4,
    per_core_M=7,
    per_core_N=4,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 2048, 5120] -> [1, 1, 2048, 800]
UP_PROJ_PREFILL_PROGRAM = GATE_PROJ_PREFILL_PROGRAM
DOWN_PROJ_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(7, 10),
    in0_block_w=5,
    out_subblock_h=1,
    out_subblock_w=3,
    out_block_h=7,
    out_block_w=6,
    per_core_M=7,
    per_core_N=6,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 2048, 3200] -> [1, 1, 2048, 1280]
GATE_PROJ_SHORT_PREFILL_PROGRAM = {
    128: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(7, 10),
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
        compute_with_storage_grid_size=(7, 10),
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
        compute_with_storage_grid_size=(7, 10),
        in0_block_w=5,
        out_subblock_h=1,
        out_subblock_w=3,
        out_block_h=1,
        out_block_w=6,
        per_core_M=1,
        per_core_N=6,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
    512: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(7, 10),
        in0_block_w=5,
        out_subblock_h=2,
        out_subblock_w=2,
        out_block_h=2,
        out_block_w=6,
        per_core_M=2,
        per_core_N=6,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
}  # [1, 1, seq_len, 3200] -> [1, 1, seq_len, 1280]
NORM_NORM_HIDDEN_STATES_GATHERED_MEMORY = ATTENTION_BUFFER_MEMORY
NORM_NORM_DECODE_PROGRAM = NORM_GATHERED_DECODE_PROGRAM
NORM_NORM_HIDDEN_STATES_MEMORY = ATTENTION_BUFFER_MEMORY
LM_HEAD_WEIGHT_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (5120, 416), [((0, 0), (11, 0))]
)  # 5120 x 4992
LM_HEAD_DECODE_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
    in0_block_w=8, per_core_M=1, per_core_N=8
)  # [1, 1, 32, 5120] -> [1, 1, 32, 4748]
LM_HEAD_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 256), [((0, 0), (6, 1)), ((0, 2), (4, 2))]
)  # 32 x 4864
LM_HEAD_PREFILL_PROGRAM = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
    compute_with_storage_grid_size=(7, 10),
    in0_block_w=8,
    out_subblock_h=1,
    out_subblock_w=2,
    out_block_h=1,
    out_block_w=22,
    per_core_M=1,
    per_core_N=22,
    transpose_mcast=False,
    fused_activation=None,
    fuse_batch=True,
)  # [1, 1, 32, 5120] -> [1, 1, 32, 4748]
LM_HEAD_SHORT_PREFILL_PROGRAM = LM_HEAD_PREFILL_PROGRAM
SAMPLE_CORES = cores(rectangles=(((0, 0), (6, 3)), ((0, 4), (3, 4))))
ATTENTION_QKV_REDUCED_MEMORY_2 = ATTENTION_QUERY_RMS_NORM_MEMORY
ATTENTION_QKV_REDUCED_MEMORY_3 = ATTENTION_KEY_RMS_NORM_MEMORY
ATTENTION_QUERY_ROTARY_OF_BOTH_MEMORY = ATTENTION_KEY_RMS_NORM_MEMORY
ATTENTION_QKV_REDUCED_MEMORY_4 = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((2, 5), (3, 5)), ((1, 6), (3, 7))]
)  # 256 x 128
ATTENTION_QUERY_MEMORY_2 = ATTENTION_QUERY_RMS_NORM_MEMORY
ATTENTION_ATTN_OUTPUT_CONCAT_HEADS_MEMORY = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 128), [((1, 0), (3, 1)), ((1, 2), (2, 2))]
)  # 32 x 1024
LOGITS_MEMORY = LM_HEAD_MEMORY
