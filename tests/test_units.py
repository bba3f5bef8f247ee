"""The cut of a ttnn graph along the modules of a model: what goes in and out of each class."""

import re

import pytest
import ttnn
from tiny import CONFIGS, folder_of

from fx2ttnn import pipeline
from fx2ttnn.emit.classes import OPTIONAL
from fx2ttnn.emit.units import MOVES, build

# So many experts of so few columns that the router and they read the hidden state in the same place of a chip.
CONFIGS["many_experts"] = {**CONFIGS["mixtral"], "hidden_size": 160, "num_local_experts": 60}


@pytest.mark.parametrize(
    ("model", "target"), [("pythia-6.9b", "galaxy"), ("many_experts", "n150"), ("qwen3_galaxy", "galaxy")]
)
def test_no_module_hands_on_what_was_moved_for_it(model, target):
    """What two norms of a parallel block, or a router and its experts, read is gathered or moved where both are called."""
    source = str(folder_of(model)) if model in CONFIGS else model
    compiled = pipeline.compile_model(pipeline.Options(source, target, max_seq_len=256))
    for unit in build(compiled.program).tree():
        for mode, body in unit.bodies.items():
            made = {value: call for call in body.all_calls(mode) for value in call.outputs}
            for value in body.outputs:
                while value in made and made[value].op.name in MOVES:
                    value = made[value].inputs[0]
                assert value in made, f"{unit.path} hands on {value}"


@pytest.mark.parametrize("name", ["paged_scaled_dot_product_attention_decode", "chunked_scaled_dot_product_attention"])
def test_none_is_as_good_as_not_given(name):
    """What the constructor of a class hands on to a call that lacks it elsewhere: see emit/classes.py."""
    with pytest.raises(TypeError) as refused:
        getattr(ttnn.transformer, name)(_not_an_argument=None)
    for argument in OPTIONAL:
        assert re.search(rf"\b{argument}: [\w. ]*\| None = None", str(refused.value))
