"""The order of recognise's passes: what a pass counts on is stated, and what is not stated does not matter."""

from dataclasses import replace

import pytest
from tiny import CONFIGS, folder_of

from fx2ttnn.capture import capture_decode, capture_prefill, load_source
from fx2ttnn.errors import GraphError
from fx2ttnn.graph.passes import Pass, changes, check_order, run
from fx2ttnn.graph.verify import verify
from fx2ttnn.recognise.passes import passes

PASSES = passes("decode", 128)
SWAPS = [(*PASSES[:i], PASSES[i + 1], PASSES[i], *PASSES[i + 2 :]) for i in range(len(PASSES) - 1)]
OMISSIONS = [PASSES[:i] + PASSES[i + 1 :] for i in range(len(PASSES) - 1)]  # the last one only verifies


@pytest.fixture(scope="module")
def graphs():
    """Captured decode graphs of all tiny models."""
    sources = {name: load_source(str(folder_of(name))) for name in CONFIGS}
    return {name: capture_decode(s.config, 3, 128, s.model_class).graph for name, s in sources.items()}


@pytest.fixture(scope="module")
def recognised(graphs):
    """What all passes make of them, each pass verified."""
    return {name: run(graph, PASSES, lambda *_: None) for name, graph in graphs.items()}


def is_refused(order) -> bool:
    try:
        check_order(order)
    except GraphError as error:
        return "must run before it" in str(error)
    return False


@pytest.mark.slow
def test_a_swap_of_neighbours_is_refused_or_changes_nothing(graphs, recognised):
    allowed = [order for order in SWAPS if not is_refused(order)]
    assert len(allowed) < len(SWAPS)
    for order in allowed:
        for name, graph in graphs.items():
            assert str(run(graph, order)) == str(recognised[name]), name


@pytest.mark.parametrize("order", OMISSIONS, ids=[one.name for one in PASSES[:-1]])
def test_no_pass_can_be_left_out(order):
    assert is_refused(order)


def test_a_wrong_order_names_what_it_breaks():
    (order,) = (o for o in SWAPS if [one.name for one in o].index("fuse_projections") == 19)
    with pytest.raises(GraphError, match="fuse_projections counts on align_heads, which must run before it"):
        check_order(order)


def test_prefill_ends_with_the_last_tile():
    source = load_source(str(folder_of("llama")))
    graph = run(capture_prefill(source.config, 128, 128, source.model_class).graph, passes("prefill", 128))
    assert any(op.name == "last_tile" for op in graph.ops)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda op: replace(op, args=op.args[:1]), "add: has 1 arguments, not 2"),
        (lambda op: replace(op, attrs={"factor": 2.0}), "add: has no attribute 'factor'; it has none"),
        (lambda op: replace(op, args=(op.args[0], 1)), "add: y is 1, not a value"),
        (lambda op: replace(op, name="plus"), "there is no operation plus"),
        (lambda op: replace(op, outputs=("fresh",)), "before it is made"),
        (lambda op: replace(op, outputs=(*op.outputs, "second")), "whose shape is not known"),
    ],
)
def test_what_a_pass_breaks_is_said_of_that_pass(recognised, broken, words):
    """A pass that breaks an op of a recognised graph is named, with the op and what is wrong with it."""
    graph = recognised["llama"]
    add = next(op for op in graph.ops if op.name == "add")

    def spoil(graph):
        return graph.with_ops(tuple(broken(op) if op is add else op for op in graph.ops))

    with pytest.raises(GraphError) as error:
        run(graph, [Pass("spoil", spoil)], lambda *_: None)
    assert words.removeprefix("add: ") in str(error.value) and "spoil: " in str(error.value)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (("input_ids",), "makes input_ids, which is there already"),
        (("fresh",), "makes fresh, whose shape is not known"),
    ],
)
def test_values_are_made_once_and_known(recognised, outputs, words):
    graph = recognised["llama"]
    last = graph.ops[-1]
    with pytest.raises(GraphError, match=words):
        verify(graph.with_ops((*graph.ops[:-1], replace(last, outputs=outputs))), "here")
    with pytest.raises(GraphError, match="the graph gives"):
        verify(graph.with_ops(graph.ops[:-1]), "here")


def test_a_later_pass_does_not_bring_back_what_an_earlier_one_removed(recognised):
    graph = recognised["llama"]

    def unaligned(graph):
        turned = (replace(op, attrs={"pairs": "neighbours"}) if op.name == "rotary" else op for op in graph.ops)
        return graph.with_ops(tuple(turned))

    align = Pass("align", lambda graph: graph, removes=("rotary.pairs",))
    with pytest.raises(GraphError, match="pass unaligned makes rotary.pairs, which align has removed"):
        run(graph, [align, Pass("unaligned", unaligned)], lambda *_: None)


def test_changes_are_told_by_operation(graphs):
    seen = {}
    run(graphs["llama"], PASSES, lambda one, before, after: seen.update({one.name: changes(before, after)}))
    assert seen["simplify"] == [] and seen["split_linears"] == []
    assert [line[:2] for line in seen["fuse_projections"]].count("+ ") == 2
    assert any(line.startswith("+ ") and " = rms_norm(" in line for line in seen["apply_patterns"])
