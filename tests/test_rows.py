"""Every row of the rule tables is taken by some model: what a row that none takes would emit, no test has seen."""

from tiny import CONFIGS, compiled, folder_of

import fx2ttnn.plan as planning
from fx2ttnn import pipeline
from fx2ttnn.ir import Placement
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.rules import load_rules
from fx2ttnn.plan.cost import Cost

WIDE, SMALL = CONFIGS["qwen3_galaxy"], {k: v for k, v in CONFIGS["llama"].items() if k != "head_dim"}
# Besides those of tiny.py. Their vocabularies are no power of two, wider than topk splits over cores, or do not divide.
MODELS = {
    "slopes": {**SMALL, "model_type": "bloom", "n_layer": 2, "n_head": 8, "vocab_size": 500},
    "waves": {**SMALL, "model_type": "xglm", "d_model": 256, "ffn_dim": 512, "num_layers": 2, "attention_heads": 8},
    "many_tokens": {**CONFIGS["starcoder2"], "hidden_act": "silu", "vocab_size": 70016},
    "most_tokens": {**CONFIGS["starcoder2"], "vocab_size": 262144},
    "layer_norms": {**WIDE, "model_type": "starcoder2", "sliding_window": None, "vocab_size": 16390},
    "no_weights": {**WIDE, "model_type": "nanochat"},
    "one_norm": {**WIDE, "model_type": "cohere", "num_hidden_layers": 2},
    "narrow": {
        **WIDE,
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_key_value_heads": 64,
    },
    "norms_behind": {**WIDE, "model_type": "olmo2", "num_hidden_layers": 4},
    "small": {
        **SMALL,
        **{"model_type": "qwen3", "hidden_size": 512, "num_attention_heads": 16, "num_key_value_heads": 8},
        "head_dim": 64,
        "max_position_embeddings": 2048,
    },
    "biased": {
        **SMALL,
        **{"model_type": "qwen2", "hidden_size": 512, "num_attention_heads": 16, "num_key_value_heads": 8},
        "max_position_embeddings": 2048,
    },
    "slopes_beside": {
        **SMALL,
        **{"model_type": "bloom", "hidden_size": 2048, "n_layer": 2, "n_head": 32},
        "max_position_embeddings": 2048,
    },
    "mixture": {
        **CONFIGS["qwen3_moe"],
        **{"hidden_size": 512, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64},
        **{"num_experts": 64, "moe_intermediate_size": 256, "max_position_embeddings": 2048},
    },
    "long_rows": {**WIDE, "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672},
    "widest": {**WIDE, "model_type": "llama", "hidden_size": 32768, "intermediate_size": 32768, "num_hidden_layers": 2},
    "widest_layer_norms": {
        **WIDE,
        "model_type": "starcoder2",
        "sliding_window": None,
        "hidden_size": 32768,
        "intermediate_size": 4096,
        "num_hidden_layers": 2,
    },
}
# A few models that take all rows between them.
COMPILES = {
    "n150": "slopes waves many_tokens phimoe cohere_norms deepseek_v3 many_heads gemma4_moe gemma2 qwen2_moe mixtral opt llama4_wide"
    " apertus ernie4_5_moe",
    "n300": "most_tokens",
    "galaxy": "layer_norms no_weights narrow one_norm norms_behind minimax_m3_vl_text llama_mha widest widest_layer_norms",
}


def stages(model: str, target: str, prefetch: bool | None = None) -> pipeline.Compiled:
    """Compiled anew."""
    return pipeline.compile_model(pipeline.Options(str(folder_of(model)), target, max_seq_len=2048, prefetch=prefetch))


def taken(program: Program) -> set[str]:
    """The rows that its calls come of; and of the sampler's operations that have no call, the row without calls."""
    assert program.sampling is not None
    called = {call.op.name for call in program.sampling.calls}
    silent = {rule.where for rule in load_rules() if not rule.calls and rule.op not in called}
    return silent | {call.rule for _, call in program.calls()}


def test_every_row_is_taken_by_a_model(monkeypatch):
    assert {rule.mode for rule in load_rules() if not rule.calls} == {"sample"}  # `taken` would not see others
    for name, fields in MODELS.items():
        monkeypatch.setitem(CONFIGS, name, fields)
    made = [compiled(model, target) for target, models in COMPILES.items() for model in models.split()]
    made.append(compiled("laguna", "n150", precision="accuracy"))
    made += [stages(name, "galaxy", prefetch=True) for name in ("small", "biased", "slopes_beside", "mixture")]
    made += [stages("qwen3_galaxy", "galaxy"), stages("long_rows", "galaxy")]
    # What the planner takes for no model here: a hidden state split over both axes, and heads of which a chip keeps some rows.
    with monkeypatch.context() as patch:
        patch.setattr(planning, "residual_placements", lambda target: [Placement((2, 2))])
        made.append(stages("widest_layer_norms", "galaxy"))
    with monkeypatch.context() as patch:
        priced = Cost.step

        def other(self, step, value, *at):
            """Sums of some rows are dear, to pick some of the heads' rows costs nothing."""
            if step.name == "reduce_scatter" and step.dim == 1:
                return 1.0
            heads = len(self.graph.specs[value].shape) == 4
            return 0.0 if step.name == "mesh_partition" and heads else priced(self, step, value, *at)

        patch.setattr(Cost, "step", other)
        made.append(stages("qwen3_galaxy", "galaxy", prefetch=False))
    assert all(result.complete for result in made)
    known = set().union(*(taken(result.program) for result in made))
    untaken = [f"{rule.where} {rule.op} {rule.name}" for rule in load_rules() if rule.where not in known]
    assert not untaken, "\n".join(untaken)
