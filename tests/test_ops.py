"""The table of operations: each entry is whole, and an op that is not as its entry says is a fault."""

from dataclasses import replace

import pytest

from fx2ttnn.graph.verify import faults
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.lower.rules import load_rules
from fx2ttnn.ops import KINDS, TABLE

SHAPES = {
    "x": (3, 1, 64),
    "weight": (128, 64),
    "second": (32, 64),
    "bias": (128,),
    "y": (3, 1, 128),
    "heads": (3, 8, 1, 64),
    "of_tokens": (3, 1, 8, 64),
}
SPECS = {name: TensorSpec(shape) for name, shape in SHAPES.items()} | {"ids": TensorSpec((3, 1), "int64")}


def said_of(name, *args, outputs=("y",), **attrs):
    op = Op(name, tuple(Ref(a) if isinstance(a, str) else a for a in args), outputs, attrs)
    return list(faults(op, Graph("decode", (), outputs, (op,), SPECS)))


@pytest.mark.parametrize("entry", TABLE.values(), ids=TABLE)
def test_an_entry_is_whole(entry):
    assert entry.compute.__doc__ and entry.kind in KINDS and entry.results
    assert not entry.attributes.keys() & entry.earlier.keys()


def test_rules_are_of_operations_of_the_table():
    """And what a plan may hold has rules, but for folded layers, which are lowered as the layer that they equal."""
    alone = {rule.op for rule in load_rules() if not rule.chain}  # a chain has a name of its own
    assert alone == {n for n, entry in TABLE.items() if entry.planned} - {"layer"}


def test_right_ops_have_no_fault():
    assert said_of("linear", "x", "weight") == said_of("linear", "x", "weight", "bias") == []
    assert said_of("linear", "x", (Ref("weight"), Ref("second")), widths=(128, 32), units=(8, 2)) == []
    assert said_of("embedding", "ids", "second", outputs=("x",)) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (said_of("add", "x", "heads"), "gives shape [3, 1, 128] of operands that make None"),
        (said_of("add", "x", "weight"), "gives shape [3, 1, 128] of operands that make [3, 128, 64]"),
        (said_of("linear", "x", "bias"), "weight has shape [128], not [_ _]"),
        (said_of("linear", "x", 2), "weight is 2, not a value"),
        (said_of("linear", "x"), "has 1 arguments, not 2 to 3"),
        (said_of("linear", "x", "weight", transposed="yes"), "attribute 'transposed' is 'yes', not bool"),
        (said_of("rms_norm", "x", outputs=("x",)), "lacks its attribute 'eps'"),
        (said_of("rms_norm", "x", eps=1e-6), "y has shape [3, 1, 128], not [... H] with H = 64"),
        (said_of("split_heads", "x", heads=8, head_dim=64, outputs=("of_tokens",)), "S = 1"),
        (said_of("embedding", "x", "second", outputs=("x",)), "ids holds float32, not whole numbers"),
        (said_of("scale", "x", factor=2.0, outputs=("x", "y")), "gives 2 values, not 1"),
    ],
)
def test_a_wrong_op_is_a_fault(said, words):
    assert any(words in fault for fault in said), said


def test_an_earlier_form_is_no_fault_but_known_as_one():
    entry = TABLE["rotary"]
    assert "pairs" in entry.earlier and "pairs" not in entry.attributes


def test_entries_do_not_change():
    with pytest.raises(AttributeError):
        TABLE["add"].kind = "norm"
    assert replace(TABLE["add"], kind="norm").kind == "norm"
