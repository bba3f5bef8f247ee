"""Heads, rotary embeddings, caches and attention of the emulator against plain torch, on a mock mesh of 2x4 chips."""

import pytest
import torch
import ttnn
from torch.nn import functional

from fx2ttnn.emulate import EmulationError, rounding

R, C = MESH = (2, 4)
device = None  # the mesh that is open: conftest.py sets it
D, BLOCK = 64, 32


pytestmark = pytest.mark.usefixtures("mesh")


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    """What is computed, without the roundings of the chip: those are in test_emulate_fidelity.py."""
    monkeypatch.setattr(rounding, "PLAIN", True)


def put(value, dims=(None, None), dtype="bfloat16", layout="TILE", memory_config=None):
    mapper = ttnn.ShardTensor2dMesh(device, MESH, dims)
    layout = ttnn.TILE_LAYOUT if layout == "TILE" else ttnn.ROW_MAJOR_LAYOUT
    where = memory_config or ttnn.DRAM_MEMORY_CONFIG
    kind = getattr(ttnn, dtype)
    return ttnn.from_torch(value, dtype=kind, layout=layout, device=device, mesh_mapper=mapper, memory_config=where)


def integers(value, dims=(None, None)):
    return put(torch.as_tensor(value, dtype=torch.int32), dims, "int32", "ROW_MAJOR")


def get(tensor, dims=(0, 1)):
    return ttnn.to_torch(tensor, mesh_composer=ttnn.ConcatMesh2dToTensor(device, MESH, dims)).float()


def one(tensor):
    return ttnn.to_torch(ttnn.get_device_tensors(tensor)[0]).float()


def near(found, wanted, tolerance=2e-2):
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted.float(), rtol=tolerance, atol=tolerance, equal_nan=True), (
        (found - wanted).abs().max()
    )


def rows(cores, width=D):
    """One tile row on each of `cores` cores."""
    grid = ttnn.num_cores_to_corerangeset(cores, device.compute_with_storage_grid_size(), True)
    kind, order = ttnn.ShardStrategy.HEIGHT, ttnn.ShardOrientation.ROW_MAJOR
    return ttnn.create_sharded_memory_config((32, width), grid, kind, order, use_height_and_width_as_shard_shape=True)


def attention(q, k, v, scale=None, window=None, sink=None):
    """Plain: q [h, d] at the last of the positions of k and v [hkv, n, d]."""
    group = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.einsum("hd,hnd->hn", q, k) * scale
    if window is not None:
        scores[:, : max(0, k.shape[1] - window)] = float("-inf")
    if sink is not None:
        scores = torch.cat([scores, sink[:, None] * scale], dim=1)
    weights = torch.softmax(scores, dim=-1)[:, : k.shape[1]]
    return torch.einsum("hn,hnd->hd", weights, v)


# Heads --------------------------------------------------------------------------------------------------------------


def test_create_heads_decode_takes_each_chips_users():
    """8 users, of which every column of chips takes 2."""
    x = torch.randn(1, 1, 8, (4 + 2 * 2) * D).bfloat16()
    offsets = integers(torch.arange(0, 8, 2).reshape(4, 1), (None, 0))
    q, k, v = ttnn.experimental.nlp_create_qkv_heads_decode(
        put(x), num_heads=4, num_kv_heads=2, batch_offset=offsets, slice_size=2,
        memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
    )  # fmt: skip
    heads = x.float().reshape(1, 8, 8, D)
    near(get(q, (0, 1))[:1], heads[:, :, :4], 0)
    near(get(k, (0, 1))[:1], heads[:, :, 4:6], 0)
    near(get(v, (0, 1))[:1], heads[:, :, 6:], 0)


@pytest.mark.parametrize("users", [4, 32])
def test_heads_and_back_in_decode(users):
    x = torch.randn(1, 1, users, (8 + 2) * D).bfloat16()
    q, k, _ = ttnn.experimental.nlp_create_qkv_heads_decode(
        put(x), num_heads=8, num_kv_heads=1, memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG
    )
    assert tuple(q.shape) == (1, users, 8, D) and tuple(k.shape) == (1, users, 1, D)
    joined = ttnn.experimental.nlp_concat_heads_decode(q, num_heads=8)
    assert tuple(joined.shape) == (1, 1, 32, 8 * D)  # ttnn counts 32 users whatever the input holds
    near(one(joined)[:, :, :users], x.float()[..., : 8 * D], 0)


@pytest.mark.parametrize("transposed", [False, True])
def test_heads_and_back_in_prefill(transposed):
    x = torch.randn(2, 1, 64, (4 + 2 * 2) * D).bfloat16()
    q, k, v = ttnn.experimental.nlp_create_qkv_heads(put(x), num_heads=4, num_kv_heads=2, transpose_k_heads=transposed)
    heads = x.float().reshape(2, 64, 8, D).transpose(1, 2)
    near(one(q), heads[:, :4], 0)
    near(one(k), heads[:, 4:6].mT if transposed else heads[:, 4:6], 0)
    near(one(v), heads[:, 6:], 0)
    near(one(ttnn.experimental.nlp_concat_heads(q)), x.float()[..., : 4 * D], 0)


# Rotary -------------------------------------------------------------------------------------------------------------


def angles(positions):
    inverse = 1.0 / (10000 ** (torch.arange(0, D, 2).float() / D))
    both = torch.cat([positions[:, None] * inverse] * 2, dim=-1)
    return both.cos().bfloat16(), both.sin().bfloat16()


def hf_rotary(x, cos, sin):
    """x [.., s, d] with cos [s, d], as in transformers' apply_rotary_pos_emb."""
    a, b = x.chunk(2, dim=-1)
    return x * cos.float() + torch.cat([-b, a], dim=-1) * sin.float()


def test_rotary_in_prefill_and_decode():
    x = torch.randn(1, 4, 32, D).bfloat16()
    cos, sin = angles(torch.arange(32.0))
    out = ttnn.experimental.rotary_embedding_hf(put(x), put(cos[None, None]), put(sin[None, None]))
    near(one(out), hf_rotary(x.float(), cos, sin))

    users = torch.tensor([3.0, 7, 100, 0, 5, 6, 31, 2])
    cos, sin = angles(users)
    q = torch.randn(1, 8, 4, D).bfloat16()
    out = ttnn.experimental.rotary_embedding_hf(
        put(q, memory_config=rows(8)), put(cos[None, :, None], memory_config=rows(8)),
        put(sin[None, :, None], memory_config=rows(8)), is_decode_mode=True,
    )  # fmt: skip
    near(one(out), hf_rotary(q.float(), cos[:, None], sin[:, None]))


def test_rotary_llama_is_hf_rotary_of_interleaved_columns():
    x = torch.randn(1, 4, 32, D).bfloat16()
    cos, sin = angles(torch.arange(32.0))
    swap = torch.stack([torch.arange(D // 2), torch.arange(D // 2) + D // 2], dim=-1).flatten()  # halves to pairs
    matrix = torch.zeros(1, 1, 32, 32)
    even = torch.arange(0, 32, 2)
    matrix[..., even, even + 1], matrix[..., even + 1, even] = 1, -1
    out = ttnn.experimental.rotary_embedding_llama(
        put(x[..., swap]), put(cos[None, None][..., swap]), put(sin[None, None][..., swap]), put(matrix)
    )
    near(one(out), hf_rotary(x.float(), cos, sin)[..., swap])


def test_norm_and_rotary_in_one_are_both_in_turn():
    """A head to a row: the reshapes before and behind count the rows that fill a user's tile, which hold anything."""
    q, weight = torch.randn(1, 8, 4, D).bfloat16(), torch.randn(D).bfloat16()
    cos, sin = angles(torch.tensor([3.0, 7, 100, 0, 5, 6, 31, 2]))
    swap = torch.stack([torch.arange(D // 2), torch.arange(D // 2) + D // 2], dim=-1).flatten()
    matrix = torch.kron(torch.eye(16), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))[None, None]
    x = ttnn.reshape(put(q[..., swap], memory_config=rows(8)), [1, 1, 8 * 32, D], [1, 1, 8 * 32, D])
    tables = (put(t[:, None].repeat(1, 32, 1).flatten(0, 1)[None, None][..., swap]) for t in (cos, sin))
    out = ttnn.experimental.dit_fused_distributed_rmsnorm(
        x, None, device, [], epsilon=1e-6, weight=put(weight[None, None, None][..., swap]), memory_config=rows(8),
        transformation_mat=put(matrix), **dict(zip(("rope_cos", "rope_sin"), tables, strict=True)),
    )  # fmt: skip
    normed = torch.nn.functional.rms_norm(q.float(), (D,), weight.float(), 1e-6)
    expected = hf_rotary(normed, cos[:, None], sin[:, None])[..., swap]
    near(one(ttnn.reshape(out, [1, 8, 4, D], [1, 8, 32, D])), expected)


# Caches and attention -----------------------------------------------------------------------------------------------


class Paged:
    """Caches of 2 kv heads per chip row for 8 users per chip column, and the plain tensors that they should hold."""

    users, kv, heads, pages = 8, 2, 4, 4

    def __init__(self, dtype="bfloat16", shared_table=False):
        blocks = self.users * self.pages
        self.k, self.v = (put(torch.zeros(blocks, self.kv, BLOCK, D), dtype=dtype) for _ in range(2))
        table = torch.stack([torch.randperm(blocks).reshape(self.users, self.pages) for _ in range(C)])
        self.table = integers(table[0]) if shared_table else integers(table.flatten(0, 1), (None, 0))
        length = self.pages * BLOCK
        self.plain_k, self.plain_v = torch.zeros(2, R, C, self.users, self.kv, length, D)

    def new(self, heads, dtype=torch.bfloat16):
        """[R, C, users, heads, D], and the same as a tensor on the chips [1, users, heads, D]."""
        plain = torch.randn(R, C, self.users, heads, D).to(dtype)
        on_host = plain.permute(0, 2, 1, 3, 4).reshape(R, self.users, C * heads, D)  # rows: dim 0, columns: dim 2
        return plain.float(), put(on_host, (0, 2), memory_config=rows(self.users))

    def write(self, positions):
        (k, tk), (v, tv) = self.new(self.kv), self.new(self.kv)
        at = integers(positions.flatten(), (None, 0))
        for cache, x in ((self.k, tk), (self.v, tv)):
            ttnn.experimental.paged_update_cache(cache, x, update_idxs_tensor=at, page_table=self.table)
        for c in range(C):
            for user, position in enumerate(positions[c].tolist()):
                if position >= 0:
                    self.plain_k[:, c, user, :, position] = k[:, c, user]
                    self.plain_v[:, c, user, :, position] = v[:, c, user]

    def attend(self, positions, **how):
        q, tq = self.new(self.heads)
        tq = ttnn.to_memory_config(tq, ttnn.DRAM_MEMORY_CONFIG)
        at = integers(positions.flatten(), (None, 0))
        out = ttnn.transformer.paged_scaled_dot_product_attention_decode(
            tq, self.k, self.v, self.table, cur_pos_tensor=at, **how
        )
        found = get(out, (0, 2)).reshape(R, self.users, C, self.heads, D).permute(0, 2, 1, 3, 4)
        return q, found

    def plain(self, q, positions, **how):
        wanted = torch.full_like(q, float("nan"))  # nobody writes the rows of users at -1
        for r in range(R):
            for c in range(C):
                for user, position in enumerate(positions[c].tolist()):
                    if position >= 0:
                        k, v = (x[r, c, user, :, : position + 1] for x in (self.plain_k, self.plain_v))
                        wanted[r, c, user] = attention(q[r, c, user], k, v, **how)
        return wanted


@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b"])
def test_decode_steps_with_a_position_per_user(dtype):
    """Several steps over page borders; positions and pages differ per user and per column of chips, one user rests."""
    paged = Paged(dtype)
    start = torch.randint(0, 40, (C, paged.users))
    for step in range(40):
        positions = start + step if step else start.clone()
        positions[:, 3] = -1
        for fill in range(int(start.max()) if step == 0 else 0):  # the prompt, token by token
            paged.write(torch.where(positions > fill, fill, -1))
        paged.write(positions)
        if step % 13 == 0:
            q, found = paged.attend(positions)
            near(found, paged.plain(q, positions), 2e-2 if dtype == "bfloat16" else 6e-2)


def filled(positions):
    paged = Paged()
    for position in range(int(positions.max()) + 1):
        paged.write(torch.where(positions >= position, position, -1))
    return paged


def test_scale_window_and_sink_matter():
    positions = torch.randint(34, 60, (C, Paged.users))
    paged = filled(positions)
    q, found = paged.attend(positions, scale=0.5)
    near(found, paged.plain(q, positions, scale=0.5))
    assert not torch.allclose(found, paged.plain(q, positions), atol=0.1)
    q, found = paged.attend(positions, sliding_window_size=16)
    near(found, paged.plain(q, positions, window=16))
    assert not torch.allclose(found, paged.plain(q, positions), atol=0.1)
    sink = (30 + torch.randn(paged.heads)).bfloat16()
    q, found = paged.attend(positions, attention_sink=put(functional.pad(sink[:, None], (0, 31))))
    near(found, paged.plain(q, positions, sink=sink.float()))
    assert not torch.allclose(found, paged.plain(q, positions), atol=0.1)


def test_a_window_needs_chunks_of_a_size():
    """The kernel is wrong behind the window where it chooses them itself."""
    positions = torch.randint(34, 60, (C, Paged.users))
    paged = filled(positions)
    grid = ttnn.CoreCoord(8, 8)
    program = {
        n: ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=grid, q_chunk_size=0, k_chunk_size=n, exp_approx_mode=False
        )
        for n in (0, 64)
    }
    with pytest.raises(EmulationError, match="window_and_chunk"):
        paged.attend(positions, sliding_window_size=16, program_config=program[0])
    q, found = paged.attend(positions, sliding_window_size=16, program_config=program[64])
    near(found, paged.plain(q, positions, window=16))


def test_row_by_row_is_the_same(monkeypatch):
    from fx2ttnn.emulate.ops import attention as emulation

    positions = torch.randint(34, 60, (C, Paged.users))
    paged = filled(positions)
    monkeypatch.setattr(emulation, "_AT_ONCE", 1)
    q, found = paged.attend(positions)
    near(found, paged.plain(q, positions))


def test_fused_update_is_two_updates():
    paged = Paged()
    (k, tk), (v, tv) = paged.new(paged.kv), paged.new(paged.kv)
    grid = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 2), ttnn.CoreCoord(7, 2))})
    kind, order = ttnn.ShardStrategy.HEIGHT, ttnn.ShardOrientation.ROW_MAJOR
    apart = ttnn.create_sharded_memory_config((32, D), grid, kind, order, use_height_and_width_as_shard_shape=True)
    positions = torch.arange(C * paged.users).reshape(C, -1)
    ttnn.experimental.paged_fused_update_cache(
        paged.k, tk, paged.v, ttnn.to_memory_config(tv, apart),
        update_idxs_tensor=integers(positions.flatten(), (None, 0)), page_table=paged.table,
    )  # fmt: skip
    table = paged.table.value[0]
    for cache, plain in ((paged.k.value, k), (paged.v.value, v)):
        for c in range(C):
            for user in range(paged.users):
                position = int(positions[c, user])
                written = cache[:, c, table[c, user, position // BLOCK], :, position % BLOCK]
                assert torch.equal(written.float(), plain[:, c, user])


def test_positions_behind_the_pages_are_errors():
    paged = Paged()
    with pytest.raises(EmulationError, match="position 128 lies behind the 4 pages of 32"):
        paged.write(torch.full((C, paged.users), 128))


def test_a_cache_that_was_equal_on_all_chips_splits_when_written():
    paged = Paged(shared_table=True)
    assert paged.k.value.shape[:2] == (1, 1)
    paged.write(torch.zeros(C, paged.users, dtype=torch.long))
    assert paged.k.value.shape[:2] == (R, C)
    q, found = paged.attend(torch.zeros(C, paged.users, dtype=torch.long))
    near(found, paged.plain(q, torch.zeros(C, paged.users, dtype=torch.long)))


def test_prefill_fills_pages_that_decode_reads():
    """A prompt of 64 tokens for one user by paged_fill_cache, then one decode step."""
    blocks, users = 16, 4
    prompt_k, prompt_v = torch.randn(2, 1, 2, 64, D).bfloat16()
    table = torch.randperm(blocks).reshape(users, 4)
    caches = [put(torch.zeros(blocks, 2, BLOCK, D)) for _ in range(2)]
    for cache, x in zip(caches, (prompt_k, prompt_v), strict=True):
        ttnn.experimental.paged_fill_cache(cache, put(x), integers(table), batch_idx=2)
    q = torch.randn(1, users, 4, D).bfloat16()
    out = ttnn.transformer.paged_scaled_dot_product_attention_decode(
        put(q), *caches, integers(table), cur_pos_tensor=integers([-1, -1, 63, -1])
    )
    near(one(out)[0, 2], attention(q[0, 2].float(), prompt_k[0].float(), prompt_v[0].float()))
    assert one(out)[0, 0].isnan().all()  # nobody wrote it


HOLES = [  # table of the first user, position, window
    ([-1, 1], 5, None),
    ([0, -1], BLOCK, None),
    ([-1, 1], 2 * BLOCK - 2, BLOCK),
]


@pytest.mark.parametrize("table, position, window", HOLES)
def test_decode_refuses_a_page_of_minus_one_that_is_seen(table, position, window):
    caches = [put(torch.zeros(4, 2, BLOCK, D)) for _ in range(2)]
    q, positions = put(torch.randn(1, 2, 4, D)), integers([position, -1])
    with pytest.raises(EmulationError, match=r"page \d of user 0 is -1 in the page table"):
        ttnn.transformer.paged_scaled_dot_product_attention_decode(
            q, *caches, integers([table, [-1, -1]]), cur_pos_tensor=positions, sliding_window_size=window
        )


def test_decode_takes_pages_of_minus_one_that_nobody_sees():
    """Behind a position, before its window, and of an idle user."""
    caches = [put(torch.ones(4, 2, BLOCK, D)) for _ in range(2)]
    q, positions = put(torch.randn(1, 2, 4, D)), integers([2 * BLOCK - 1, -1])
    out = ttnn.transformer.paged_scaled_dot_product_attention_decode(
        q, *caches, integers([[-1, 1, -1], [-1, -1, -1]]), cur_pos_tensor=positions, sliding_window_size=BLOCK
    )
    near(one(out)[0, 0], torch.ones(4, D))


def test_prefill_refuses_a_page_of_minus_one_in_the_chunk():
    caches = [put(torch.zeros(4, 2, BLOCK, D)) for _ in range(2)]
    q = put(torch.randn(1, 4, BLOCK, D))
    ttnn.transformer.chunked_scaled_dot_product_attention(q, *caches, integers([[0, 1, -1]]), chunk_start_idx=BLOCK)
    with pytest.raises(EmulationError, match="page 1 of user 0 is -1 in the page table"):
        ttnn.transformer.chunked_scaled_dot_product_attention(q, *caches, integers([[0, -1, 2]]), chunk_start_idx=BLOCK)


def test_two_users_do_not_write_into_one_tile():
    cache, x = put(torch.zeros(4, 2, 64, D)), put(torch.ones(1, 8, 2, D), memory_config=rows(8))
    table = integers([[0], [0], [1], [2], [3], [3], [3], [3]])

    def update(positions):
        ttnn.experimental.paged_update_cache(cache, x, update_idxs_tensor=integers(positions), page_table=table)

    update([1, 40, 0, 0, 0, 63, -1, -1])  # two tiles of pages 0 and 3
    with pytest.raises(EmulationError, match="two users write into one tile"):
        update([1, 31, 0, 0, 0, 63, -1, -1])


def test_rows_behind_the_users_are_undefined():
    """Measured in the vendor's simulator: nlp_concat_heads_decode leaves rows 8 to 31 as they were."""
    x = ttnn.experimental.nlp_concat_heads_decode(put(torch.ones(1, 8, 4, D), memory_config=rows(8)), num_heads=4)
    assert one(x)[0, 0, :8].eq(1).all() and one(x)[0, 0, 8:].isnan().all()


@pytest.mark.parametrize("plain", [True, False])
def test_undefined_rows_stay_in_their_row(monkeypatch, plain):
    """What is not a number in an idle user's row reaches no other row, whatever runs on the rows."""
    monkeypatch.setattr(rounding, "PLAIN", plain)
    hidden, clean = torch.randn(2, 1, 1, 8, 64).bfloat16()
    clean[..., 3, :] = hidden[..., 3, :] = float("nan")
    idle = torch.arange(8) == 3
    weight, gain = put(torch.randn(64, 64), dtype="bfloat8_b"), put(torch.ones(1, 1, 2, 32), layout="ROW_MAJOR")
    for dtype in (ttnn.bfloat16, ttnn.bfloat8_b):
        x = put(hidden)
        x = ttnn.rms_norm(x, weight=gain)
        x = ttnn.linear(x, weight, dtype=dtype)
        x = ttnn.add(x, put(clean), dtype=dtype)
        x = ttnn.all_reduce(x, cluster_axis=1)
        values, places = ttnn.topk(ttnn.typecast(x, ttnn.bfloat16), 32)
        for found in (x, values, ttnn.typecast(x, ttnn.bfloat16)):
            assert (one(found).isnan().any(-1).flatten() == idle).all()
        assert one(places).min() >= 0 and one(places).max() < 64
        assert one(ttnn.argmax(ttnn.untilize(ttnn.typecast(x, ttnn.bfloat16)), dim=3)).max() < 64


def test_prefill_fills_the_pages_of_each_column():
    """8 users, 2 on each column of chips: elsewhere a user's pages are -1 and nothing is written; heads over rows."""
    blocks, length = 8, 64
    prompts = torch.randn(8, 1, 4, length, D).bfloat16()
    cache = put(torch.zeros(blocks, 2, BLOCK, D))
    own = torch.stack([torch.randperm(blocks)[:4].reshape(2, 2) for _ in range(C)])  # [C, users, pages]
    for user, prompt in enumerate(prompts):
        table = torch.full((C, 8, 2), -1)
        table[user // 2, user] = own[user // 2, user % 2]
        ttnn.experimental.paged_fill_cache(
            cache, put(prompt, (1, None)), integers(table.flatten(0, 1), (None, 0)), batch_idx=user
        )
    found = get(cache, (1, 0)).reshape(C, blocks, 2 * R, BLOCK, D)
    wanted = torch.zeros_like(found)
    for user, prompt in enumerate(prompts):
        for page, block in enumerate(own[user // 2, user % 2]):
            wanted[user // 2, block] = prompt[0, :, page * BLOCK : (page + 1) * BLOCK].float()
    assert torch.equal(found, wanted)


def test_a_ring_of_pages_keeps_the_last_tokens():
    prompt = torch.randn(1, 2, 160, D).bfloat16()
    cache = put(torch.zeros(4, 2, BLOCK, D))
    table = integers(torch.tensor([[3, 1, 0, 2]]))
    ttnn.experimental.paged_fill_cache(cache, put(prompt), table, batch_idx=0, cache_position_modulo=64)
    found = one(cache)
    for position in range(96, 160):
        page, offset = divmod(position % 64, BLOCK)
        assert torch.equal(found[[3, 1][page], :, offset], prompt[0, :, position].float())
    assert found[[0, 2]].eq(0).all()


@pytest.mark.parametrize("window", [None, 32])
@pytest.mark.parametrize("sink", [False, True])
def test_prefill_attention_with_heads_over_the_rows(window, sink):
    """8 query heads and 2 key heads over 2 rows of chips, with a sink for each query head."""
    q, k, v = torch.randn(1, 8, 64, D).bfloat16(), *torch.randn(2, 1, 2, 64, D).bfloat16()
    sinks = torch.randn(1, 8, 1, 1).bfloat16()
    how = {"attention_sink": put(sinks, (1, None))} if sink else {}
    out = ttnn.transformer.scaled_dot_product_attention(
        put(q, (1, None)), put(k, (1, None)), put(v, (1, None)), is_causal=True, sliding_window_size=window, **how
    )
    wanted = torch.stack(
        [
            attention(
                q[0, :, n].float(), k[0, :, : n + 1].float(), v[0, :, : n + 1].float(), window=window,
                sink=sinks.flatten().float() if sink else None,
            )
            for n in range(64)
        ],
        dim=1,
    )  # fmt: skip
    near(get(out, (1, 0))[:1], wanted[None])


@pytest.mark.parametrize("token", [None, 5])
def test_plain_rotary_embedding(token):
    x = torch.randn(1, 4 if token is None else 1, 32 if token is None else 8, D).bfloat16()
    cos, sin = angles(torch.arange(64.0))
    out = ttnn.experimental.rotary_embedding(put(x), put(cos[None, None]), put(sin[None, None]), token)
    rows = slice(32) if token is None else slice(token, token + 1)
    near(one(out)[..., : x.shape[-2], :], hf_rotary(x.float(), cos[rows], sin[rows]))


def test_plain_cache_decode():
    users, length = 8, 64
    k, v = (put(torch.zeros(users, 2, length, D)) for _ in range(2))
    plain_k, plain_v = torch.zeros(2, users, 2, length, D)
    for position in range(33):
        for cache, plain in ((k, plain_k), (v, plain_v)):
            x = torch.randn(1, users, 2, D).bfloat16()
            ttnn.experimental.paged_update_cache(
                cache, put(x, memory_config=rows(users)), update_idxs=[position] * users
            )
            plain[:, :, position] = x[0].float()
    q = torch.randn(1, users, 4, D).bfloat16()
    out = ttnn.transformer.scaled_dot_product_attention_decode(put(q), k, v, cur_pos_tensor=integers([32] * users))
    wanted = torch.stack([attention(q[0, u].float(), plain_k[u, :, :33], plain_v[u, :, :33]) for u in range(users)])
    near(one(out)[0], wanted)


def test_prefill_attention():
    q, k, v = torch.randn(1, 4, 64, D).bfloat16(), *torch.randn(2, 1, 2, 64, D).bfloat16()
    args = put(q), put(k), put(v)
    near(one(ttnn.transformer.scaled_dot_product_attention(*args)), causal(q, k, v))
    out = ttnn.transformer.scaled_dot_product_attention(*args, scale=0.3, sliding_window_size=16)
    near(one(out), causal(q, k, v, 0.3, 16))
    mask = torch.randn(1, 1, 64, 64).bfloat16()
    out = ttnn.transformer.scaled_dot_product_attention(*args, attn_mask=put(mask), is_causal=False)
    wanted = functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask.float(), enable_gqa=True)
    near(one(out), wanted)


def causal(q, k, v, scale=None, window=None):
    n = torch.arange(k.shape[-2])
    at = n[-q.shape[-2] :, None]
    seen = (n <= at) & (n > at - (window or 10**9))
    return functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), seen, scale=scale, enable_gqa=True)


def test_prefill_in_chunks():
    q, k, v = torch.randn(1, 4, 128, D).bfloat16(), *torch.randn(2, 1, 2, 128, D).bfloat16()
    table = integers(torch.randperm(8)[None])
    caches = [put(torch.zeros(8, 2, BLOCK, D)) for _ in range(2)]
    for cache, x in zip(caches, (k, v), strict=True):
        ttnn.experimental.paged_fill_cache(cache, put(x), table, batch_idx=0)
    program = ttnn.SDPAProgramConfig(compute_with_storage_grid_size=(8, 8), q_chunk_size=64, k_chunk_size=64)
    for start in (0, 64):
        chunk = put(q[:, :, start : start + 64])
        for where in ({"chunk_start_idx": start}, {"chunk_start_idx_tensor": integers([start])}):
            out = ttnn.transformer.chunked_scaled_dot_product_attention(
                chunk, *caches, table, program_config=program, **where
            )
            near(one(out), causal(q, k, v)[:, :, start : start + 64])
    # Chips of a row have a part of the tokens each.
    out = ttnn.transformer.chunked_scaled_dot_product_attention(
        put(q, (2, None)), *caches, table, program_config=program, chunk_start_idx_tensor=integers([0, 64], (0, None))
    )
    near(get(out, (2, 0))[:1], causal(q, k, v))


def test_vendor_references_agree():
    def golden(op, *args, **how):
        return ttnn.get_golden_function(op)(*args, **how)

    q, k, v = torch.randn(1, 4, 64, D).bfloat16(), *torch.randn(2, 1, 2, 64, D).bfloat16()
    op = ttnn.transformer.scaled_dot_product_attention
    near(one(op(put(q), put(k), put(v))), golden(op, q.float(), k.float(), v.float()))
    sink = torch.randn(1, 4, 1, 1).bfloat16()
    near(
        one(op(put(q), put(k), put(v), attention_sink=put(sink))),
        golden(op, q.float(), k.float(), v.float(), attention_sink=sink.float()),
    )
    op = ttnn.transformer.paged_scaled_dot_product_attention_decode
    q, k, v = torch.randn(1, 4, 8, D).bfloat16(), *torch.randn(2, 16, 2, BLOCK, D).bfloat16()
    table, at = torch.randperm(16).reshape(4, 4).int(), torch.tensor([5, 70, 127, 33]).int()
    for window in (None, 32):
        out = op(put(q), put(k), put(v), integers(table), cur_pos_tensor=integers(at), sliding_window_size=window)
        how = {"cur_pos_tensor": at, "sliding_window_size": window}
        near(one(out), golden(op, q.float(), k.float(), v.float(), table, **how))
