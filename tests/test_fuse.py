"""Operations are joined where one call computes them, and only where nothing else sees the difference."""

from dataclasses import replace

import pytest
from tiny import compiled

from fx2ttnn.fuse import fuse
from fx2ttnn.ir import Op, Ref
from fx2ttnn.lower import lower
from fx2ttnn.lower.rules import load_rules

ROW = """[[{name}]]
chain = {chain}
when = {when}
why = "A test."
parameters = ["weight: tensor([1, 1, 8, 32], 'float32', ROW_MAJOR) = norm()"]
calls = ["{result} = ttnn.add(x, x)"]
results = {results}
overwrites = {{ {overwrites} }}
"""
NORM = ["summed = add(x, y)", "normed = rms_norm(summed, weight)"]


@pytest.fixture
def row(tmp_path):
    """Rows of a table of its own: one for each chain."""

    def load(*chains, when=(), results=("summed", "normed"), overwrites=""):
        texts = [
            ROW.format(
                name=f"joined_{n}",
                chain=chain,
                when=list(when),
                result=results[-1],
                results=list(results),
                overwrites=overwrites,
            )
            for n, chain in enumerate(chains)
        ]
        (tmp_path / "t.toml").write_text("\n".join(texts))
        return load_rules(tmp_path)

    return load


def joined(plan, rules):
    return [op for op in fuse(plan, rules).graph.ops if op.chain]


def with_op(plan, op, behind):
    """The plan with one more operation behind the one that makes `behind`."""
    place = next(n for n, made in enumerate(plan.graph.ops) if behind in made.outputs) + 1
    spec, like = plan.graph.specs[op.inputs[0]], op.inputs[0]
    graph = plan.graph.with_ops((*plan.graph.ops[:place], op, *plan.graph.ops[place:]), {op.outputs[0]: spec})
    placements = {**plan.placements, op.outputs[0]: plan.placements[like]}
    return replace(plan, graph=graph, placements=placements, orders={**plan.orders, op.outputs[0]: plan.orders[like]})


@pytest.fixture(scope="module")
def plan():
    return compiled("llama").plan


@pytest.fixture(scope="module")
def chain(plan):
    """The sum in the first layer and the norm behind it."""
    (op,) = [op for op in plan.graph.ops if op.module == "model.layers.0.post_attention_layernorm"]
    return plan.graph.producers()[op.args[0]], op


def test_a_chain_becomes_one_operation_of_the_innermost_module(plan, chain, row):
    """The norm at the end reads another layer's sum, and stays alone."""
    (op,) = joined(plan, row(NORM))
    assert op.chain == op.members == chain
    assert (op.name, op.module) == ("joined_0", "model.layers.0.post_attention_layernorm")
    assert op.args == (*chain[0].args, chain[1].args[1]) and op.outputs == (*chain[0].outputs, *chain[1].outputs)
    assert op.attrs["eps"] == 1e-6 and set(op.sources) == {*chain[0].sources, *chain[1].sources}


def test_what_another_operation_reads_must_be_a_result(plan, row):
    """The sum is the residual of what comes behind the MLP."""
    assert not joined(plan, row(NORM, results=("normed",)))
    gated = ["gated = glu(gate, up)", "product = linear(gated, weight)"]
    assert len(joined(plan, row(gated, results=("product",)))) == 1


def test_a_result_that_is_read_before_the_last_operation_keeps_them_apart(plan, chain, row):
    (summed,) = chain[0].outputs
    early = Op("activation", (Ref(summed),), ("early",), {"function": "relu"}, "model.layers.0")
    assert not joined(with_op(plan, early, summed), row(NORM))
    assert joined(with_op(plan, early, chain[1].outputs[0]), row(NORM))


def test_what_is_overwritten_is_read_by_nothing_behind_it(plan, chain, row):
    rules = row(NORM, overwrites='summed = "x"')
    assert len(joined(plan, rules)) == 1
    late = Op("activation", (chain[0].args[0],), ("late",), {"function": "relu"}, "model.layers.0")
    assert not joined(with_op(plan, late, chain[1].outputs[0]), rules)


def test_what_equal_layers_read_too_is_not_overwritten(plan, chain, row):
    """They are not in the plan's graph; with them, the embedding that each reads would be."""
    graph = plan.capture.graph
    reads = Op("layer", (chain[0].args[0],), ("again",), {"like": "model.layers.0", "index": 7}, "model.layers.7")
    layers = replace(plan.capture, graph=graph.with_ops((*graph.ops, reads)))
    assert not joined(replace(plan, capture=layers), row(NORM, overwrites='summed = "x"'))


def test_modules_beside_one_another_are_not_joined(plan, row):
    """Which of two classes would hold both?"""
    beside = ["normed = rms_norm(x, factors)", "product = linear(normed, weight)"]
    assert not joined(plan, row(beside, results=("product",)))


def test_a_row_whose_conditions_do_not_hold_joins_nothing(plan, row):
    assert joined(plan, row(NORM, when=["rank(x) == 3", "op.eps < 1"]))
    assert not joined(plan, row(NORM, when=["parts(x, -1) > 1"]))


def test_longer_chains_come_first(plan, row):
    longer = [*NORM[:1], "normed = rms_norm(summed, weight)"]
    rules = row(
        ["gated = glu(gate, up)"], ["gated = glu(gate, up)", "normed = linear(gated, weight)"], results=("normed",)
    )
    assert [len(op.chain) for op in joined(plan, rules) if op.name == "joined_1"] == [2]
    assert longer == NORM


def test_the_galaxy_adds_up_and_makes_heads_in_one_call():
    """And keys and values, which lie on different cores then, are written in one."""
    result = compiled("qwen3_galaxy", "galaxy")
    (made,) = [call for call in result.lowered.calls if call.function.endswith("create_qkv_heads")]
    assert [op.name for op in made.op.members] == ["all_reduce", "create_qkv_heads"]
    (written,) = [call for call in result.lowered.calls if "update_cache" in call.function]
    assert written.function == "ttnn.experimental.paged_fused_update_cache"
    assert written.writes == (written.args[0], written.args[2])
    rows = {row.op: row for row in result.coverage.rows if row.mode == "decode" and row.module.endswith("self_attn")}
    assert rows["all_reduce"].rules == rows["create_qkv_heads"].rules and not rows["all_reduce"].ttnn


def test_a_sum_written_over_its_operand_is_read_from_there(plan, chain, row):
    """The operation behind reads the residual's tensor, in which the sum lies."""
    (fused,) = [op for op in fuse(plan, row(NORM, overwrites='summed = "x"')).graph.ops if op.chain]
    rules = (*load_rules(), *row(NORM, overwrites='summed = "x"'))
    lowered = lower(fuse(plan, rules), rules)
    (call,) = [call for call in lowered.calls if call.op.chain]
    (behind,) = [c for c in lowered.calls if c.op.name == "add" and c.op.args[0] == fused.outputs[0]]
    assert behind.args[0] == call.args[0] and call.writes == call.args
