"""Traces on a mock mesh of 2x4 chips: a replay computes what the same calls compute without a trace."""

import contextlib
import gc

import pytest
import torch
import ttnn

from fx2ttnn.emulate import EmulationError
from fx2ttnn.emulate.places import Place, place

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
    Model(1).step()  # compiles the programs
    eager, traced = Model(1), Model(1)
    trace = capture()
    logits = traced.step()
    ttnn.end_trace_capture(device, trace, cq_id=0)
    gc.collect()
    shard = ttnn.get_device_tensors(logits)[0]  # taken before the first replay: of whichever is the last
    assert one(traced.positions).tolist() == list(range(USERS))  # the capture ran nothing
    seen = set()
    for _ in range(40):
        wanted = one(eager.step())  # read at once: a replay may write where it lies
        ttnn.execute_trace(device, trace, cq_id=0, blocking=False)
        ttnn.synchronize_device(device)
        assert torch.equal(ttnn.to_torch(shard), wanted)
        for ours, theirs in ((traced.tokens, eager.tokens), (traced.cache, eager.cache)):
            assert torch.equal(one(ours), one(theirs))
        seen.add(tuple(one(traced.tokens).flatten().tolist()))
    assert len(seen) > 5
    assert one(traced.positions).tolist() == [40 + user for user in range(USERS)]


def test_new_input_by_copy_from_the_host(capture):
    x = put(torch.zeros(32, 32))
    ttnn.add(x, 1.0)
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
    ttnn.multiply(x, 3.0)
    trace = capture()
    y = ttnn.multiply(x, 3.0)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    with monkeypatch.context() as patched:
        patched.setattr(FastOperation, "__call__", None)
        ttnn.execute_trace(device, trace, cq_id=0, blocking=True)
    assert one(y).eq(3).all()


def test_results_have_no_numbers_before_the_execution(capture):
    x = put(torch.ones(32, 32))
    ttnn.add(x, 1.0)
    trace = capture()
    y = ttnn.add(x, 1.0)
    ttnn.end_trace_capture(device, trace, cq_id=0)
    with pytest.raises(EmulationError, match="before the trace that computes it is executed"):
        one(y)


def test_a_trace_keeps_no_buffers_and_no_numbers_of_dropped_tensors(capture):
    """Tensors that the program has dropped leave L1 free during the capture, and no numbers after an execution."""
    x = put(torch.ones(1, 1, 1024, 2048))
    ttnn.add(x, 1.0, memory_config=ttnn.L1_MEMORY_CONFIG)
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


def captured(capture, run):
    """The trace of `run`, compiled before, and what it returns."""
    run()
    trace = capture()
    result = run()
    ttnn.end_trace_capture(device, trace, cq_id=0)
    gc.collect()
    return trace, result


def test_a_tensor_allocated_where_a_replay_writes_loses_its_numbers(capture):
    x, other = put(torch.ones(32, 32)), put(torch.full((32, 32), 3.0))
    trace, y = captured(capture, lambda: ttnn.add(ttnn.multiply(x, 2.0), 1.0))
    late = ttnn.multiply(other, 2.0)  # where the product lay in the capture
    assert one(late).eq(6).all()
    ttnn.execute_trace(device, trace, cq_id=0)
    assert one(y).eq(3).all()
    with pytest.raises(EmulationError, match=r"test_emulate_trace.py:\d+ allocated lies where the trace captured at"):
        ttnn.multiply(late, 2.0)
    ttnn.copy(other, late)  # written anew, it is good again
    assert one(late).eq(3).all()


def test_a_tensor_allocated_elsewhere_keeps_its_numbers(capture):
    x, other = put(torch.ones(32, 32)), put(torch.full((32, 32), 3.0))
    trace, y = captured(capture, lambda: ttnn.add(x, 1.0))
    late = ttnn.add(other, 1.0)
    ttnn.execute_trace(device, trace, cq_id=0)
    assert one(y).eq(2).all() and one(late).eq(4).all()


@pytest.mark.parametrize("memory", ["DRAM", "L1", "sharded"])
def test_the_place_of_a_tensor_is_that_of_its_buffer(memory):
    grid = ttnn.num_cores_to_corerangeset(5, device.compute_with_storage_grid_size(), True)
    shards = ttnn.create_sharded_memory_config(
        (64, 64),
        grid,
        ttnn.ShardStrategy.WIDTH,
        ttnn.ShardOrientation.ROW_MAJOR,
        use_height_and_width_as_shard_shape=True,
    )
    where = {"DRAM": ttnn.DRAM_MEMORY_CONFIG, "L1": ttnn.L1_MEMORY_CONFIG, "sharded": shards}[memory]
    x = ttnn.to_memory_config(put(torch.zeros(1, 1, 64, 320)), where)
    (buffer,) = (b for b in ttnn._ttnn.reports.get_buffers(device) if b.address == x.buffer_address())
    assert place(x.real) == Place(buffer.buffer_type.name, buffer.address, buffer.address + buffer.max_size_per_bank)


def test_programs_compiled_in_a_capture_or_before_a_replay_are_refused(capture):
    x = put(torch.ones(96, 32))
    trace, _ = captured(capture, lambda: ttnn.add(x, 1.0))
    ttnn.rsqrt(x)  # a new program
    with pytest.raises(EmulationError, match=r"1 programs were compiled after .* captured at .*test_emulate_trace.py"):
        ttnn.execute_trace(device, trace, cq_id=0)
    capture()
    with pytest.raises(EmulationError, match=r"ttnn.exp compiles a program inside a trace capture"):
        ttnn.exp(x)


@pytest.mark.parametrize("take", [lambda y: ttnn.get_device_tensors(y)[0], lambda y: ttnn.reshape(y, (1, 1, 32, 32))])
def test_the_result_of_a_replay_is_not_read_after_the_next(capture, take):
    x = put(torch.ones(32, 32))
    ttnn.reshape(x, (1, 1, 32, 32))
    trace, y = captured(capture, lambda: ttnn.add(x, 1.0))
    ttnn.execute_trace(device, trace, cq_id=0)
    first = take(y)
    assert first.value.eq(2).all()
    ttnn.execute_trace(device, trace, cq_id=0)
    with pytest.raises(EmulationError, match="a view of the result of replay 1 of a trace, and read after replay 2"):
        ttnn.to_torch(first)
    assert one(y).eq(2).all()
