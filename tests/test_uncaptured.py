"""A module with a state besides keys and values: the report names every such module, and all else that is missing."""

import json

from tiny import SIZES, write_config

from fx2ttnn.capture import capture_decode, load_config

LINEAR = {
    "model_type": "qwen3_next",
    "num_hidden_layers": 8,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 4,
    "num_experts": 0,
}


def test_the_report_goes_on_behind_it(run, tmp_path):
    config = write_config(tmp_path / "model", SIZES | LINEAR)
    code, _, err = run("compile", config, "--target", "n150", "--max-seq-len", 128, "-o", "out")
    assert code == 3 and "no package" in err
    report = json.loads((tmp_path / "out" / "report" / "coverage.json").read_text())
    modules = [row for row in report["unsupported"] if row["op"] == "uncaptured"]
    assert [(row["mode"], row["module"], row["layers"]) for row in modules] == [
        ("decode", "model.layers.0.linear_attn", 6),
        ("prefill", "model.layers.0.linear_attn", 6),
    ]
    assert {row["problem"].partition(";")[0] for row in modules} == {
        "Qwen3NextGatedDeltaNet: the model calls `get_conv_state` of its cache"
    }
    text = (tmp_path / "out" / "report" / "coverage.md").read_text()
    assert "is not known and not counted: model.layers.0.linear_attn." in text
    # What is behind it is in the report too: its MLPs, and the attention of the other layers.
    assert {("mlp", 6), ("mlp", 2), ("self_attn", 2)} <= {
        (row["module"].split(".")[3], row["layers"]) for row in report["rows"] if row["module"].count(".") > 3
    }
    assert not any(row["ttnn"] for row in modules)


def test_nothing_but_it_is_one_message(run, tmp_path):
    fields = SIZES | LINEAR | {"layer_types": ["linear_attention"] * 8}
    code, _, err = run("compile", write_config(tmp_path / "model", fields), "--target", "n150", "-o", "out")
    assert code == 2 and not (tmp_path / "out").exists()
    assert "model.layers.0.linear_attn: Qwen3NextGatedDeltaNet: the model calls `get_conv_state`" in err


def test_the_model_is_left_as_it_was(tmp_path):
    """Capturing twice gives the same graph: no class of its modules stays exchanged."""
    config = load_config(str(write_config(tmp_path / "model", SIZES | LINEAR)))
    first, again = (capture_decode(config, max_seq_len=128) for _ in range(2))
    assert str(first.graph) == str(again.graph)
    assert {m.class_name for m in first.modules.values() if m.path.endswith("linear_attn")} == {
        "Qwen3NextGatedDeltaNet"
    }
