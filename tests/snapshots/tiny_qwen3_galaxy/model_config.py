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
PREFILL_LENGTHS = (128, 2048)  # tokens of a chunk of a prompt; shorter ones are padded, longer ones split
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


ATTENTION_128 = ttnn.SDPAProgramConfig(
    compute_with_storage_grid_size=(8, 9), q_chunk_size=0, k_chunk_size=0, exp_approx_mode=False
)
COMPUTE_HIFI2 = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi2, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True
)
COMPUTE_HIFI3 = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi3, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True
)
DRAM_1024X1536 = sharded(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (1024, 128), [((0, 0), (11, 0))])
DRAM_1280X1536 = sharded(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (1280, 128), [((0, 0), (11, 0))])
DRAM_5120X1152 = sharded(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (5120, 96), [((0, 0), (11, 0))])
DRAM_5120X768 = sharded(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (5120, 64), [((0, 0), (11, 0))])
DRAM_800X5376 = sharded(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, (800, 448), [((0, 0), (11, 0))])
HEIGHT_SHARDED_32X32X128 = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (7, 3))]
)
HEIGHT_SHARDED_8X32X128 = sharded(
    ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (7, 0))]
)
LINEAR_1024X1280 = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(in0_block_w=4, per_core_M=1, per_core_N=5)
LINEAR_1280X1280 = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(in0_block_w=2, per_core_M=1, per_core_N=2)
LINEAR_5120X800 = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(in0_block_w=5, per_core_M=1, per_core_N=1)
LINEAR_800X5120 = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(in0_block_w=1, per_core_M=1, per_core_N=7)
PREFILL_ATTENTION_128 = {
    128: ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(8, 9), q_chunk_size=64, k_chunk_size=128, exp_approx_mode=False
    ),
    2048: ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(8, 9), q_chunk_size=256, k_chunk_size=256, exp_approx_mode=False
    ),
}
PREFILL_LINEAR_1280X1280 = {
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
    2048: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
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
    ),
}
PREFILL_LINEAR_5120X512 = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
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
)
PREFILL_LINEAR_5120X800 = {
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
    2048: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
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
    ),
}
PREFILL_LINEAR_800X5120 = {
    128: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=5,
        out_subblock_h=1,
        out_subblock_w=4,
        out_block_h=1,
        out_block_w=20,
        per_core_M=1,
        per_core_N=20,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
    2048: ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 9),
        in0_block_w=5,
        out_subblock_h=1,
        out_subblock_w=4,
        out_block_h=4,
        out_block_w=20,
        per_core_M=8,
        per_core_N=20,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=True,
    ),
}
RMS_NORM_1280 = ttnn.LayerNormShardedMultiCoreProgramConfig(
    compute_with_storage_grid_size=(5, 4), subblock_w=2, block_h=1, block_w=2, inplace=False
)
RMS_NORM_5120 = ttnn.LayerNormShardedMultiCoreProgramConfig(
    compute_with_storage_grid_size=(8, 4), subblock_w=1, block_h=1, block_w=5, inplace=False
)
SAMPLE_CORES = cores(rectangles=(((0, 0), (7, 3)),))
WIDTH_SHARDED_10240_ON_5X4 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 512), [((0, 0), (4, 3))]
)
WIDTH_SHARDED_1024_ON_8X1 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (7, 0))]
)
WIDTH_SHARDED_1280_ON_5X4 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 64), [((0, 0), (4, 3))]
)
WIDTH_SHARDED_1280_ON_8X1 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 160), [((0, 0), (7, 0))]
)
WIDTH_SHARDED_1280_ON_8X2_4X1 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 64), [((0, 0), (7, 1)), ((0, 2), (3, 2))]
)
WIDTH_SHARDED_128_ON_1X1 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 128), [((0, 0), (0, 0))]
)
WIDTH_SHARDED_5120_ON_5X4 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 256), [((0, 0), (4, 3))]
)
WIDTH_SHARDED_5120_ON_8X4 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 160), [((0, 0), (7, 3))]
)
WIDTH_SHARDED_512_ON_8X2 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 32), [((0, 0), (7, 1))]
)
WIDTH_SHARDED_5152_ON_8X2_7X1 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 224), [((0, 0), (7, 1)), ((0, 2), (6, 2))]
)
WIDTH_SHARDED_800_ON_8X3_1X1 = sharded(
    ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, 32), [((0, 0), (7, 2)), ((0, 3), (0, 3))]
)
