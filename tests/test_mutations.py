"""Mistakes that a tiny emitted package's own tests must notice: one line broken at a time."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from suites import assert_passes, compiled, run_suite
from tiny import MUTATED, write_config

ATTENTION = ("tests/modules/test_attention.py::test_qwen3_attention_decode",)
PREFILL_ATTENTION = ("tests/modules/test_attention.py::test_qwen3_attention_prefill",)
MLP = ("tests/modules/test_mlp.py::test_qwen3_mlp_decode",)
NORM = ("tests/modules/test_norm.py::test_qwen3_rmsnorm_decode",)
LAYER = ("tests/modules/test_decoder.py::test_qwen3_decoder_layer_decode",)
SAMPLING = ("tests/modules/test_sampling.py",)
MODEL = ("tests/model/test_model.py::test_decode",)
PROMPT = ("tests/model/test_model.py::test_prefill",)
CHUNKS = ("tests/model/test_model.py::test_prefill_in_chunks",)
TYPES = ("tests/model/test_model.py::test_types",)
CACHES = ("tests/model/test_generator.py::test_two_caches",)
PAGES = ("tests/model/test_generator.py::test_pages_behind_a_prompt",)
CACHED = ("tests/model/test_generator.py::test_cached_prompt",)
GENERATOR = ("tests/model/test_generator.py",)

# What is wrong: (file, class and function, line or part of it, in its place, the tests that can see it)
MUTATIONS = {
    "scale 5 % off": (
        "attention",
        "Qwen3Attention.decode_forward",
        "scale=cfg.ATTENTION_SCALE",
        "scale=0.11875",
        ATTENTION,
    ),
    "scale 5 % off, prefill": (
        *(
            "attention",
            "Qwen3Attention.prefill_forward",
            "scale=cfg.ATTENTION_SCALE",
            "scale=0.1181640625",
            PREFILL_ATTENTION,
        ),
    ),
    "q_norm for k_norm": (
        "attention",
        "Qwen3Attention.__init__",
        '"k_norm.weight"',
        '"q_norm.weight"',
        PREFILL_ATTENTION,
    ),
    "epsilon of q_norm": (
        *("attention", "Qwen3Attention.decode_forward", "epsilon=cfg.NORM_EPS,\n            weight=self.q_norm"),
        *("epsilon=1e-05,\n            weight=self.q_norm", ATTENTION),
    ),
    "epsilon of a layer's norm": ("norm", "Qwen3RMSNorm.decode_forward", "epsilon=cfg.NORM_EPS", "epsilon=1e-05", NORM),
    "window 90 of 96": (
        *(
            "attention",
            "Qwen3Attention.decode_forward",
            "window_size=self.sliding_window_size",
            "window_size=90",
            ATTENTION,
        ),
    ),
    "window 90 of 96, prefill": (
        *(
            "attention",
            "Qwen3Attention.prefill_forward",
            "window_size=self.sliding_window_size",
            "window_size=90",
            PREFILL_ATTENTION,
        ),
    ),
    "key's weights for value": (
        "attention",
        "Qwen3Attention.__init__",
        '"v_proj.weight"',
        '"k_proj.weight"',
        ATTENTION,
    ),
    "caches swapped": (
        *("attention", "Qwen3Attention.decode_forward", "            key_cache,\n            value_cache,"),
        *("            value_cache,\n            key_cache,", ATTENTION),
    ),
    "value not written": (
        *("attention", "Qwen3Attention.decode_forward", "paged_update_cache(value_cache, value,"),
        *("paged_update_cache(key_cache, key,", ATTENTION),
    ),
    "value not written, prefill": (
        *("attention", "Qwen3Attention.prefill_forward", "paged_fill_cache(value_cache, value,"),
        *("paged_fill_cache(key_cache, key,", PREFILL_ATTENTION),
    ),
    "cos and sin swapped, prefill": (
        "attention",
        "Qwen3Attention.prefill_forward",
        "weight=self.q_norm,\n            transformation_mat=self.turn,\n            rope_cos=cos,\n            rope_sin=sin,",
        "weight=self.q_norm,\n            transformation_mat=self.turn,\n            rope_cos=sin,\n            rope_sin=cos,",
        PREFILL_ATTENTION,
    ),
    "cos and sin swapped": (
        "attention",
        "Qwen3Attention.decode_forward",
        "rope_cos=cos,\n            rope_sin=sin,\n            memory_config=cfg.ATTENTION_QUERY",
        "rope_cos=sin,\n            rope_sin=cos,\n            memory_config=cfg.ATTENTION_QUERY",
        ATTENTION,
    ),
    "neighbours turned the other way": (
        *("resources", "Resources.quarter_turn", "[[0.0, 1.0], [-1.0, 0.0]]", "[[0.0, -1.0], [1.0, 0.0]]", ATTENTION),
    ),
    "gate and up swapped": ("mlp", "Qwen3MLP.__init__", '"gate_proj.weight"', '"up_proj.weight"', MLP),
    "no all_reduce": (
        *("mlp", "Qwen3MLP.decode_forward", "ttnn.experimental.all_reduce_async(", "(lambda summand, **how: summand)("),
        MLP,
    ),
    "all_reduce over the other axis": ("mlp", "Qwen3MLP.decode_forward", "cluster_axis=1", "cluster_axis=0", MLP),
    "one matrix in bfloat8_b": (
        *("mlp", "Qwen3MLP.__init__", '"down_proj.weight", mesh_dims=(None, 2), dtype=ttnn.bfloat16'),
        *('"down_proj.weight", mesh_dims=(None, 2), dtype=ttnn.bfloat8_b', TYPES),
    ),
    "LoFi for HiFi3": ("model_config", "", "MathFidelity.HiFi3", "MathFidelity.LoFi", ATTENTION),
    "another norm's weight": (
        *("decoder", "Qwen3DecoderLayer.__init__", '"post_attention_layernorm"', '"input_layernorm"', LAYER),
    ),
    "residual left out": (
        *("decoder", "Qwen3DecoderLayer.decode_forward", "ttnn.add(hidden_states, o,", "ttnn.add(o, o,", LAYER),
    ),
    "layer 0's weights for all": (
        *("model", "Qwen3ForCausalLM.__init__", 'f"model.layers.{index}"', '"model.layers.0"', MODEL),
    ),
    "first layer's cache for all": (
        *("model", "Qwen3ForCausalLM.decode_forward", "cache[0], cache[1]", "*kv_cache[0]", MODEL),
    ),
    "order of layers": (
        "model",
        "",
        "LAYER_KINDS = [0, 1,",
        "LAYER_KINDS = [1, 0,",
        PROMPT,
    ),
    "window not handed on": (
        *("decoder", "Qwen3DecoderLayer.__init__", "sliding_window_size=sliding_window_size"),
        *("sliding_window_size=None", PROMPT),
    ),
    "window of all layers": (
        *("model", "", '{"sliding_window_size": None,', '{"sliding_window_size": cfg.SLIDING_WINDOW,', PROMPT),
    ),
    "another final norm": (
        *("model", "Qwen3ForCausalLM.__init__", '"model.norm"', '"model.layers.0.input_layernorm"', MODEL),
    ),
    "embedding for lm_head": ("model", "Qwen3ForCausalLM.__init__", '"lm_head"', '"model.embed_tokens"', MODEL),
    "idle rows at position 0": (
        *(
            "model",
            "Qwen3ForCausalLM.host_decode_inputs",
            "decode_rows(positions, -1)",
            "decode_rows(positions, 0)",
            MODEL,
        ),
    ),
    "positions of every chunk from 0": (
        *(
            "model",
            "Qwen3ForCausalLM.host_prefill_inputs",
            "prefill_positions(start,",
            "prefill_positions(0,",
            CHUNKS,
        ),
    ),
    "a prompt's last token off by one": (
        *("model", "Qwen3ForCausalLM.read_prefill_logits", "tokens.numel() - 1", "tokens.numel() - 2", PROMPT),
    ),
    "position tables off by one": ("position_tables", "rows", "torch.arange(", "1 + torch.arange(", ATTENTION),
    "temperature not inverted": (
        "decode_loop",
        "sampling_settings",
        "top_p), 1 / temperature",
        "top_p), float(temperature)",
        SAMPLING,
    ),
    "one seed for all positions": ("decode_loop", "draw_seed", "{seed} {position}", "{seed}", SAMPLING),
    "top_p ignored": ("decode_loop", "sampling_settings", "float(top_p)", "1.0", SAMPLING),
    "token ids of one chip": (
        "sampling",
        "Sampler.sample_forward",
        "ttnn.add(columns, self.first_token,",
        "ttnn.add(columns, 0,",
        SAMPLING,
    ),
    "traces kept for another cache": (
        *(
            "decode_loop",
            "DecodeLoop._take_cache",
            "self.release()\n            self.kv_cache",
            "self.kv_cache",
            CACHES,
        ),
    ),
    "padding written behind a prompt": (
        *("model", "Qwen3ForCausalLM.host_prefill_inputs", "end = start + tokens.numel()", "end = start + length"),
        PAGES,
    ),
    "pages behind a user's own read": (
        *("inputs", "own_pages", "page_table.gather(1, columns), 0)", "page_table[:, : cfg.PAGES_PER_USER], 0)", PAGES),
    ),
    "cached pages written again": (
        *("inputs", "pages_of_chunk", "columns >= cached // cfg.PAGE_SIZE", "columns >= 0", CACHED),
    ),
    "positions do not advance": (
        *(
            "decode_loop",
            "DecodeLoop._step",
            'ttnn.plus_one(self.inputs["current_pos"], skip_negative_entries=True)',
            "pass",
        ),
        GENERATOR,
    ),
    "idle users advance": (
        *("decode_loop", "DecodeLoop._step", "skip_negative_entries=True", "skip_negative_entries=False", GENERATOR),
    ),
    "token not fed back": ("decode_loop", "DecodeLoop._sample", "ttnn.copy(", "print(", GENERATOR),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a Qwen3 with a window in its first layer, in bfloat16 on two rows of four chips, with fewer users than rows."""
    config = write_config(tmp_path_factory.mktemp("tiny") / "tiny_qwen3", MUTATED)
    folder = tmp_path_factory.mktemp("whole")
    return compiled(folder, str(config), "t3k_2x4", "accuracy", batch=8, max_seq_len=256)


def mutated(package: Path, folder: Path, file: str, place: str, line: str, broken: str) -> Path:
    """A copy of the package with another line in one function, or in the file where `place` is empty; the line must be there once."""
    copy = folder / "broken"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / f"{file}.py"
    text = path.read_text()
    node: ast.AST = ast.parse(text)
    for name in place.split(".") if place else ():
        node = next(inner for inner in ast.iter_child_nodes(node) if getattr(inner, "name", None) == name)
    lines = text.splitlines(keepends=True)
    first, last = (node.lineno - 1, node.end_lineno) if isinstance(node, ast.stmt) else (0, None)
    before, function, behind = (
        "".join(part) for part in (lines[:first], lines[first:last], lines[last:] if last else [])
    )
    assert function.count(line) == 1, f"{file}.py, {place}: {line!r} is there {function.count(line)} times"
    path.write_text(before + function.replace(line, broken) + behind)
    return copy


@pytest.mark.slow
def test_the_whole_package_passes(package: Path) -> None:
    """Fewer users than a tile has rows; several kinds of layers, and two of one kind."""
    assert_passes(run_suite(package, "tests/modules", "tests/model/test_model.py", "tests/model/test_trace.py"))


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mistake_is_noticed(package: Path, tmp_path: Path, mutation: str) -> None:
    *where, tests = MUTATIONS[mutation]
    done = run_suite(mutated(package, tmp_path, *where), *tests, options=("--exitfirst",))
    noticed = "1 failed" in done.stdout or "1 error" in done.stdout  # by what a fixture runs
    assert done.returncode == 1 and noticed, done.stdout[-4000:]
