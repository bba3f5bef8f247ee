"""Traces on a mock mesh of 2x4 chips: a replay computes what the same calls compute without a trace."""

import contextlib
import gc

import pytest
import torch
import ttnn

from fx2ttnn.emulate import EmulationError

R, C = MESH = (2, 4)
device = None  # the mesh that is open: conftest.py sets it
D, BLOCK, USERS, VOCABULARY = 64, 32, 8, 128


pytestmark = pytest.mark.usefixtures("mesh")


def put(value, dims=(None, None), dtype="bfloat16", layout=ttnn.TILE_LAYOUT, on=True):
    mapper = ttnn.ShardTensor2dMesh(device, MESH, dims)
    where = {"device": device, "memory_config": ttnn.DRAM_MEMORY_CONFIG} if on else {}
    return ttnn.from_torch(value, dtype=getattr(ttnn, dtype), layout=layout, mesh_mapper=mapper, **where)


def integers(value, on=True):
    dtype = "int32" if value.dtype == torch.int32 else "uint32"
    return put(value.int(), dtype=dtype, layout=ttnn.ROW_MAJOR_LAYOUT, on=on)


def one(tensor):
    return ttnn.to_torch(ttnn.get_device_tensors(tensor)[0])


@pytest.fixture
def capture():
    """Begins a capture that is ended whatever happens."""
    begun = []

    def begin():
        begun.append(ttnn.begin_trace_capture(device, cq_id=0))
        return begun[-1]

    yield begin
    for trace in begun:
        for finish in (ttnn.end_trace_capture, ttnn.release_trace):
            with contextlib.suppress(EmulationError):  # the test has done it
                finish(device, trace)


class Model:
    """One head of attention over a paged cache, and a product to a vocabulary that is split over the columns of chips."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.table = put(torch.randn(VOCABULARY, D).bfloat16(), layout=ttnn.ROW_MAJOR_LAYOUT)
        self.out = put(torch.randn(D, VOCABULARY), (None, 1))
        self.cache = put(torch.zeros(USERS * 2, 1, BLOCK, D), dtype="bfloat8_b")
        self.pages = integers(torch.arange(USERS * 2).reshape(USERS, 2).int())
        self.tokens = integers(torch.randint(0, VOCABULARY, (1, USERS)).long())
        self.positions = integers(torch.arange(USERS).int())
        grid = ttnn.num_cores_to_corerangeset(USERS, device.compute_with_storage_grid_size(), True)
        kind, order = ttnn.ShardStrategy.HEIGHT, ttnn.ShardOrientation.ROW_MAJOR
        self.rows = ttnn.create_sharded_memory_config(
            (32, D), grid, kind, order, use_height_and_width_as_shard_shape=True
        )

    def step(self):
        """Logits; the token of highest score goes back into `tokens`, the positions count on."""
        x = ttnn.embedding(self.tokens, self.table, layout=ttnn.TILE_LAYOUT)
        x = ttnn.reshape(x, (1, USERS, 1, D))
        heads = ttnn.to_memory_config(x, self.rows)
        ttnn.experimental.paged_update_cache(
            self.cache, heads, update_idxs_tensor=self.positions, page_table=self.pages
        )
        ttnn.deallocate(heads)
        x = ttnn.transformer.paged_scaled_dot_product_attention_decode(
            x, self.cache, self.cache, self.pages, cur_pos_tensor=self.positions
        )
        logits = ttnn.linear(ttnn.reshape(x, (1, 1, USERS, D)), self.out)
        logits = ttnn.all_gather(logits, 3, cluster_axis=1)
        tokens = ttnn.argmax(ttnn.untilize(logits), dim=3)
        ttnn.copy(ttnn.reshape(tokens, (1, USERS)), self.tokens)
        ttnn.plus_one(self.positions, skip_negative_entries=True)
        return logits


def test_replay_is_the_same_as_eager(capture):
    eager, traced = Model(1), Model(1)
    trace = capture()
    logits = traced.step()
    ttnn.end_trace_capture(device, trace, cq_id=0)
    gc.collect()
    shard = ttnn.get_device_tensors(logits)[0]  # taken once, read after every step
    assert one(traced.positions).tolist() == list(range(USERS))  # the capture ran nothing
    seen = set()
    for _ in range(40):
        wanted = eager.step()
        ttnn.execute_trace(device, trace, cq_id=0, blocking=False)
        ttnn.synchronize_device(device)
        assert torch.equal(ttnn.to_torch(shard), one(wanted))
        for ours, theirs in ((traced.tokens, eager.tokens), (traced.cache, eager.cache)):
            assert torch.equal(one(ours), one(theirs))
        seen.add(tuple(one(traced.tokens).flatten().tolist()))
    assert len(seen) > 5
    assert one(traced.positions).tolist() == [40 + user for user in range(USERS)]


def test_new_input_by_copy_from_the_host(capture):
    x = put(torch.zeros(32, 32))
    trace = capture()
    y = ttnn.add(x, 1.0)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    for number in (3.0, 5.0):
        ttnn.copy_host_to_device_tensor(put(torch.full((32, 32), number), on=False), x)
        ttnn.execute_trace(device, trace, cq_id=0, blocking=True)
        assert one(y).eq(number + 1).all()


def test_replay_calls_no_ttnn(capture, monkeypatch):
    from ttnn.decorators import FastOperation

    x = put(torch.ones(32, 32))
    trace = capture()
    y = ttnn.multiply(x, 3.0)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    with monkeypatch.context() as patched:
        patched.setattr(FastOperation, "__call__", None)
        ttnn.execute_trace(device, trace, cq_id=0, blocking=True)
    assert one(y).eq(3).all()


def test_results_have_no_numbers_before_the_execution(capture):
    x = put(torch.ones(32, 32))
    trace = capture()
    y = ttnn.add(x, 1.0)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    with pytest.raises(EmulationError, match="before the trace that computes it is executed"):
        one(y)


def test_a_trace_keeps_no_buffers_and_no_numbers_of_dropped_tensors(capture):
    """Tensors that the program has dropped leave L1 free during the capture, and no numbers after an execution."""
    x = put(torch.ones(1, 1, 1024, 2048))
    trace = capture()
    for _ in range(64):  # 4 MB each: together more than the L1 of a chip
        y = ttnn.add(x, 1.0, memory_config=ttnn.L1_MEMORY_CONFIG)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    ttnn.execute_trace(device, trace, cq_id=0, blocking=True)
    assert one(y).eq(2).all()


@pytest.mark.parametrize(
    "transfer",
    [
        lambda x: put(torch.zeros(32, 32)),
        lambda x: one(x),
        lambda x: ttnn.from_device(x),
        lambda x: ttnn.to_device(put(torch.zeros(32, 32), on=False), device),
        lambda x: ttnn.copy_host_to_device_tensor(put(torch.zeros(32, 32), on=False), x),
        lambda x: ttnn.zeros((32, 32), device=device, layout=ttnn.TILE_LAYOUT),
        lambda x: ttnn.synchronize_device(device),
    ],
)
def test_transfers_in_a_capture_are_refused(capture, transfer):
    x = put(torch.zeros(32, 32))
    capture()
    with pytest.raises(EmulationError, match="inside a trace capture"):
        transfer(x)


def test_unknown_and_released_traces_are_refused(capture):
    trace = capture()
    with pytest.raises(EmulationError, match="inside a trace capture"):
        ttnn.execute_trace(device, trace, cq_id=0)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    with pytest.raises(EmulationError, match="not being captured"):
        ttnn.end_trace_capture(device, trace, cq_id=0)
    ttnn.release_trace(device, trace)
    for use in (ttnn.execute_trace, ttnn.release_trace):
        with pytest.raises(EmulationError, match="never captured, or released"):
            use(device, trace)
        with pytest.raises(EmulationError, match="never captured, or released"):
            use(device, 7)


def test_events_need_no_waiting():
    ttnn.wait_for_event(0, ttnn.record_event(device, 0))
