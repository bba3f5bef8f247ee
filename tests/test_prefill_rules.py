"""The rows for prefill and the words of the vocabulary that only they use."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fx2ttnn import targets
from fx2ttnn.lower.rules import load_rules
from fx2ttnn.lower.values import Memory, Tensor
from fx2ttnn.lower.vocabulary import Vocabulary, float32
from fx2ttnn.precision import PRECISIONS

GALAXY = targets.load("galaxy")
DECODE = Vocabulary(GALAXY, PRECISIONS["performance"], "decode")
WORDS = Vocabulary(GALAXY, PRECISIONS["performance"], "prefill")
TILE_BYTES = {"bfloat16": 2048, "bfloat8_b": 1088}


def rows(tokens, width):
    return Tensor("x", (1, 1, tokens, width), "bfloat16", "TILE", Memory("DRAM"))


def weight(k, n, dtype="bfloat8_b"):
    return Tensor("w", (1, 1, k, n), dtype, "TILE", WORDS.dram_width_sharded(k, n))


def matmul(tokens, k, n, dtype="bfloat8_b"):
    config = WORDS.prefill_matmul(rows(tokens, k), weight(k, n, dtype))
    assert config.name == "ttnn.MatmulMultiCoreReuseMultiCastProgramConfig"
    return dict(config.kwargs)


def attention(heads, tokens, dim):
    config = WORDS.prefill_attention(Tensor("q", (1, heads, tokens, dim), "bfloat16", "TILE", Memory("DRAM")))
    assert config.name == "ttnn.SDPAProgramConfig"
    return dict(config.kwargs)


# -- matmul ----------------------------------------------------------------------------------------------------------


def test_a_matmul_of_qwen3_32b_on_the_galaxy():
    """The gate of the MLP: 2048 rows, [1280, 3200] of the weight on each chip. 64 x 100 tiles over 8 x 8 cores."""
    assert matmul(2048, 1280, 3200) == {
        "compute_with_storage_grid_size": (8, 9),
        "in0_block_w": 8,
        "out_subblock_h": 4,
        "out_subblock_w": 1,
        "out_block_h": 8,
        "out_block_w": 13,
        "per_core_M": 8,
        "per_core_N": 13,
        "transpose_mcast": False,
        "fused_activation": None,
        "fuse_batch": True,
    }


def test_rows_that_do_not_fit_at_once_are_computed_in_blocks():
    """The gate of Llama-3.1-8B on one chip: 8 x 56 tiles of a core would take 2.7 MB."""
    config = matmul(2048, 4096, 14336)
    assert (config["per_core_M"], config["out_block_h"], config["in0_block_w"]) == (8, 2, 2)
    assert matmul(2048, 4096, 14336, "bfloat16")["out_block_h"] == 1


def test_one_row_of_tiles_takes_one_row_of_cores():
    config = matmul(32, 64, 48)
    assert (config["per_core_M"], config["per_core_N"], config["in0_block_w"]) == (1, 1, 2)


def test_a_weight_too_wide_for_l1_is_refused():
    with pytest.raises(ValueError, match="151936 columns"):
        matmul(128, 4096, 151936)


@given(st.integers(1, 256), st.integers(1, 30000), st.integers(1, 20480), st.sampled_from(sorted(TILE_BYTES)))
def test_a_matmul_is_legal_for_any_sizes(row_tiles, k, n, dtype):
    """What ttnn checks when it builds the program; that its kernel takes no blocks of columns; and that it fits L1."""
    config = matmul(32 * row_tiles, k, n, dtype)
    m_tiles, k_tiles, n_tiles = row_tiles, -(-k // 32), -(-n // 32)
    high, wide, deep = config["out_block_h"], config["out_block_w"], config["in0_block_w"]
    columns, lines = config["compute_with_storage_grid_size"]
    assert (columns, lines) == GALAXY.grid
    assert k_tiles % deep == 0
    assert config["per_core_M"] % high == 0
    assert config["per_core_N"] == wide
    assert high % config["out_subblock_h"] == 0 and wide % config["out_subblock_w"] == 0
    assert config["out_subblock_h"] * config["out_subblock_w"] <= 4
    assert -(-m_tiles // config["per_core_M"]) <= lines and -(-n_tiles // config["per_core_N"]) <= columns
    assert wide >= -(-n_tiles // GALAXY.dram_banks), "a core takes at least the columns of one bank"
    buffers = 2 * deep * (high * 2048 + wide * TILE_BYTES[dtype]) + high * wide * (2048 + 4096) + wide * 2048
    assert buffers <= GALAXY.l1_usable_bytes


# -- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "tokens", "dim", "queries", "keys"),
    [
        (8, 32, 128, 32, 64),
        (8, 64, 128, 64, 64),
        (8, 128, 128, 64, 128),
        (8, 2048, 128, 256, 256),
        (8, 512, 128, 64, 256),
        (32, 512, 128, 256, 256),
        (4, 2048, 256, 128, 128),
        (1, 96, 64, 32, 64),
    ],
)
def test_blocks_of_queries_and_keys(heads, tokens, dim, queries, keys):
    config = attention(heads, tokens, dim)
    assert (config["q_chunk_size"], config["k_chunk_size"]) == (queries, keys)
    assert config["compute_with_storage_grid_size"] == (8, 9)


@given(st.integers(1, 64), st.sampled_from([32, 64, 128, 256, 512, 1024, 2048, 4096]), st.integers(1, 16))
def test_blocks_divide_the_position_at_which_a_chunk_starts(heads, tokens, dim_tiles):
    """A chunk starts at a multiple of its own length and of a page; ttnn cannot check the start that the device reads."""
    config = attention(heads, tokens, 32 * dim_tiles)
    assert max(tokens, 64) % config["q_chunk_size"] == 0
    assert max(tokens, 64) % config["k_chunk_size"] == 0
    assert tokens % config["q_chunk_size"] == 0


@pytest.mark.parametrize(
    ("width", "cores"),
    [(1024, 2), (4096, 2), (8192, 8)],
    ids=["where it lies", "just fits", "256 KiB on each of two cores, so home"],
)
def test_an_input_on_few_cores_moves_where_the_output_would_crowd_them(width, cores):
    """Two heads lie on two cores, and so would their output; a core's L1 in decode bounds what a later prefill matmul finds free."""
    heads = Tensor("x", (1, 1, 32, 256), "bfloat16", "TILE", DECODE.heads_on_cores(2, 128))
    assert DECODE.matmul_input(heads, width).core_count == cores


@pytest.mark.parametrize(
    ("n", "block"), [(5120, 6), (18944, 3), (40960, 1)], ids=["a layer's", "a vocabulary's eighth", "more than fits"]
)
def test_blocks_of_a_streamed_weight_fit_beside_the_sums_of_its_columns(n, block):
    """The core next to a bank holds three blocks of the bank's columns; six tiles of 18944 columns were refused on the mock."""
    x = Tensor(
        "x",
        (1, 1, 32, 6144),
        "bfloat16",
        "TILE",
        DECODE.home(Tensor("x", (1, 1, 32, 6144), "bfloat16", "TILE", Memory("L1"))),
    )
    assert x.memory.core_count == 32
    config = dict(DECODE.dram_sharded_matmul(x, weight(6144, n)).kwargs)
    assert config["in0_block_w"] == block


# -- numbers ---------------------------------------------------------------------------------------------------------


@given(st.floats(1e-30, 1e30))
def test_float32_is_exactly_a_float32_and_the_nearest(x):
    found = float32(x)
    assert struct.unpack("f", struct.pack("f", found))[0] == found
    assert abs(found - x) <= x * 2**-24


# -- rows ------------------------------------------------------------------------------------------------------------


def test_prefill_has_a_row_for_each_op_of_a_decoder():
    ops = {rule.op for rule in load_rules() if rule.mode == "prefill"}
    linear = {"linear", "rms_norm", "embedding", "position_table", "last_tile", "add", "glu"}
    heads = {"create_qkv_heads", "rotary", "update_cache", "attention", "concat_heads"}
    assert ops >= linear | heads | {"all_reduce", "reduce_scatter", "all_gather", "mesh_partition"}


def test_prefill_rows_hold_no_weights_of_their_own():
    """Weights and caches are the tensors that decode holds, but for small weights in a form that only prefill's kernels take."""
    holders = {"linear", "rms_norm", "embedding", "position_table", "update_cache"}
    rules = [rule for rule in load_rules() if rule.mode == "prefill" and rule.op in holders]
    assert {rule.op for rule in rules} == holders
    assert all(rule.shared and not rule.parameters for rule in rules if rule.name != "wide_rows")
