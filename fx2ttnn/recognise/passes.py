"""The steps from ATen ops to the operations of a transformer, in order, and what each of them counts on."""

from __future__ import annotations

from functools import partial

from fx2ttnn.graph.passes import Pass
from fx2ttnn.graph.verify import verify
from fx2ttnn.recognise.alibi import positions_in_columns
from fx2ttnn.recognise.complex_rotary import real_rotary
from fx2ttnn.recognise.experts import place_experts
from fx2ttnn.recognise.filled import fill_columns
from fx2ttnn.recognise.half_rotary import join_halves
from fx2ttnn.recognise.heads import fuse_projections
from fx2ttnn.recognise.heads_first import heads_first
from fx2ttnn.recognise.last_tile import take_last_tile
from fx2ttnn.recognise.norms_of_heads import norms_of_heads
from fx2ttnn.recognise.parts import split_linears
from fx2ttnn.recognise.patterns import apply_patterns
from fx2ttnn.recognise.position_factors import multiply_by_positions
from fx2ttnn.recognise.repeated_heads import heads_once
from fx2ttnn.recognise.rotary import align_heads
from fx2ttnn.recognise.rows import separate_rows
from fx2ttnn.recognise.scaled_rotary import scale_tables
from fx2ttnn.recognise.scattered import scatter_last
from fx2ttnn.recognise.shared_keys import join_parts_of_heads
from fx2ttnn.recognise.simplify import simplify
from fx2ttnn.recognise.single_head import without_single_heads
from fx2ttnn.recognise.spelling import one_spelling
from fx2ttnn.recognise.tables import tabulate_positions
from fx2ttnn.recognise.transposed import transposed_weights
from fx2ttnn.recognise.written_experts import experts_of_stacks


def passes(mode: str, max_seq_len: int, neighbours: bool = False, parts: int = 1) -> tuple[Pass, ...]:
    """The passes for a graph of `mode`, "decode" or "prefill", whose cache holds `max_seq_len` tokens; `neighbours`: see `align_heads`, `parts`: `fill_columns`."""
    found = [
        Pass("simplify", simplify),
        Pass("one_spelling", one_spelling, ("simplify",)),
        Pass("heads_once", heads_once, ("one_spelling",)),
        Pass("real_rotary", real_rotary, ("one_spelling",)),
        Pass("without_single_heads", without_single_heads, ("one_spelling",)),
        Pass("heads_first", heads_first, ("heads_once", "real_rotary", "without_single_heads")),
        # What is looked up is looked up in the form that the patterns then see.
        Pass("tabulate_positions", tabulate_positions, ("heads_first",)),
        Pass("scatter_last", scatter_last, ("one_spelling",)),
        Pass("experts_of_stacks", experts_of_stacks, ("scatter_last",)),
        Pass("separate_rows", separate_rows, ("experts_of_stacks",)),
        Pass("transposed_weights", transposed_weights, ("separate_rows",)),
        Pass("apply_patterns", apply_patterns, ("tabulate_positions", "transposed_weights")),
        Pass("norms_of_heads", norms_of_heads, ("apply_patterns",)),
        Pass("join_halves", join_halves, ("apply_patterns",)),
        Pass("scale_tables", scale_tables, ("join_halves",)),
        Pass("multiply_by_positions", partial(multiply_by_positions, max_seq_len=max_seq_len), ("scale_tables",)),
        Pass("place_experts", place_experts, ("apply_patterns",)),
        Pass("join_parts_of_heads", join_parts_of_heads, ("join_halves",)),
        Pass("split_linears", split_linears, ("place_experts", "join_parts_of_heads")),
        Pass(
            "align_heads",
            partial(align_heads, neighbours=neighbours),
            ("norms_of_heads", "split_linears"),
            ("rotary.pairs", "rotary.gives", "concat_shared_rope"),
        ),
        Pass("fuse_projections", fuse_projections, ("multiply_by_positions", "align_heads")),
        Pass("positions_in_columns", positions_in_columns, ("align_heads",), ("attention.slopes",)),
    ]
    if parts > 1:
        found.append(Pass("fill_columns", partial(fill_columns, parts=parts), ("fuse_projections",)))
    if mode == "prefill":
        found.append(Pass("take_last_tile", take_last_tile, ("fuse_projections", "positions_in_columns")))
    last = found[-1].name
    recognised = Pass(
        "recognised", partial(verify, where="recognise"), ("fuse_projections", "positions_in_columns", last)
    )
    return (*found, recognised)
