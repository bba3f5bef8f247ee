"""Columns that no mesh axis can divide: zeros behind them, in the graph and in a package's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from suites import assert_passes, compiled, run_suite

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.ops import TABLE
from fx2ttnn.recognise.filled import fill_columns

COLUMNS = 8224  # 257 tiles: for 8 chips 264


def graph(*ops: Op, columns: int = COLUMNS, outputs: tuple[str, ...] = ("out",)) -> Graph:
    shapes = {"x": (4, 1, 64), "gate": (columns, 64), "up": (columns, 64), "down": (64, columns), "bias": (columns,)}
    made = {out: (4, 1, 64 if out == "out" else columns) for op in ops for out in op.outputs}
    specs = {name: TensorSpec(shape) for name, shape in {**shapes, **made, "norm": (columns,)}.items()}
    names = {name: f"{name}.weight" for name in ("gate", "up", "down", "bias", "norm")}
    return Graph("decode", ("x",), outputs, ops, specs, names)


def linear(x: str, weight: str, out: str, *more: str, **attrs: object) -> Op:
    return Op("linear", tuple(Ref(v) for v in (x, weight, *more)), (out,), attrs, "mlp")


MLP = (
    linear("x", "gate", "a", "bias"),
    linear("x", "up", "b"),
    Op("glu", (Ref("a"), Ref("b")), ("c",), {"activation": "sigmoid"}, "mlp"),
    linear("c", "down", "out"),
)


def test_what_is_between_linear_layers_is_filled() -> None:
    found = fill_columns(graph(*MLP), 8)
    assert [op.attrs for op in found.ops] == [
        {"fill": 224},
        {"fill": 224},
        {"activation": "sigmoid"},
        {"input_fill": 224},
    ]
    assert {found.specs[value].shape[-1] for value in ("a", "b", "c", "down", "bias")} == {8448}
    assert (found.specs["gate"].shape, found.specs["x"].shape, found.specs["out"].shape) == (
        (8448, 64),
        (4, 1, 64),
        (4, 1, 64),
    )


def test_the_numbers_stay() -> None:
    """Also where zero becomes another number on the way, as by a sigmoid."""
    torch.manual_seed(0)
    values = {name: torch.randn(spec.shape) for name, spec in graph(*MLP).specs.items()}

    def run(of: Graph) -> torch.Tensor:
        known = {name: values[name] for name in ("x", "gate", "up", "down", "bias")}
        for op in of.ops:
            known[op.outputs[0]] = TABLE[op.name].compute(None, op, [known[v] for v in op.inputs])
        return known["out"]

    torch.testing.assert_close(run(fill_columns(graph(*MLP), 8)), run(graph(*MLP)))


@pytest.mark.parametrize(
    "ops",
    [
        (*MLP[:3], Op("rms_norm", (Ref("c"), Ref("norm")), ("d",), {"eps": 1e-6}, "mlp"), linear("d", "down", "out")),
        (MLP[0], Op("add", (Ref("a"), Ref("x")), ("c",), {}, "mlp"), MLP[3]),
        (linear("x", "gate", "a", rows=(0, COLUMNS, 1)), MLP[1], *MLP[2:]),
    ],
    ids=["a norm reads them", "they are added to what is given", "rows are chosen"],
)
def test_what_others_read_stays(ops: tuple[Op, ...]) -> None:
    before = graph(*ops)
    assert fill_columns(before, 8).ops == before.ops


def test_a_result_of_the_model_stays() -> None:
    before = graph(*MLP, outputs=("out", "c"))
    assert fill_columns(before, 8).ops == before.ops


@pytest.mark.parametrize(("columns", "parts"), [(1024, 8), (64, 8), (COLUMNS, 1), (COLUMNS, 257)])
def test_columns_that_divide_or_are_few_stay(columns: int, parts: int) -> None:
    before = graph(*MLP, columns=columns)
    assert fill_columns(before, parts).ops == before.ops


def test_a_package(tmp_path: Path) -> None:
    """An odd width, and biases beside the prefetcher: the MLP against Hugging Face on the emulator, each linear layer against torch."""
    fields = {
        **tiny.CONFIGS["qwen2"],
        **{"hidden_size": 512, "intermediate_size": 8224, "num_attention_heads": 16, "num_key_value_heads": 8},
    }
    package = compiled(tmp_path, str(tiny.write_config(tmp_path / "odd", fields)), "galaxy", prefetch=True)
    mlp, attention = ((package / f"{name}.py").read_text() for name in ("mlp", "attention"))
    assert "input_fill=224" in mlp and "fill=224" in mlp and "global_cb" in mlp
    assert "ttnn.add(\n            qkv, self.qkv_proj_bias" in attention
    assert_passes(run_suite(package, "tests/ops/test_linear.py", "tests/modules/test_mlp.py"))
