"""How long the emulator takes, against Hugging Face's forward in float32 on the same CPU: decode, trace replay, prefill.

    python benchmarks/emulator_speed.py [--model qwen3-0.6b --target n150 --layers 2]

Both sides have the same layers, tokens, history and random weights, and run in turns in this process, so that other load on the
machine meets both. Decode is the package that fx2ttnn emits; prefill is a plain ttnn program below, one user, on one chip's worth
of work per chip. Each figure is the fastest of its runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

HISTORY, PROMPT = 96, 128


@dataclass
class Seconds:
    """The least of all runs: wall time, and CPU time of all threads, which other load on the machine hardly changes."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def against(self, label: str, other: Seconds) -> str:
        wall = f"{self.wall:7.3f} s, Hugging Face {other.wall:7.3f} s: {self.wall / other.wall:5.2f} times"
        return f"{label:16} {wall}; CPU {self.cpu:7.3f} s and {other.cpu:7.3f} s: {self.cpu / other.cpu:5.2f} times"


def in_turns(runs: int, **what: Callable[[], Any]) -> dict[str, Seconds]:
    """The least seconds of each, after one run to warm up."""
    best = {name: Seconds() for name in what}
    for turn in range(runs + 1):
        for name, call in what.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                found = best[name]
                found.wall = min(found.wall, time.perf_counter() - wall)
                found.cpu = min(found.cpu, time.process_time() - cpu)
    return best


def imported(folder: Path) -> Any:
    """The package in a folder."""
    sys.path.insert(0, str(folder.parent))
    return importlib.import_module(folder.name)


def emitted(model: str, target: str, layers: int, folder: Path) -> Path:
    """The package of a model's first layers, in a new folder."""
    from fx2ttnn import pipeline

    done = pipeline.compile_model(pipeline.Options(model, target, layers=layers, max_seq_len=256))
    pipeline.write_package(done, folder / "emitted")
    return folder / "emitted"


def hugging_face(package: Any, layers: int) -> Any:
    """The same model with random weights that bfloat16 holds exactly."""
    import json

    from transformers import AutoConfig, AutoModelForCausalLM

    values = json.loads((Path(package.__file__).parent / "config.json").read_text())
    values |= {"num_hidden_layers": layers, "layer_types": None}
    config = AutoConfig.for_model(**values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return model


def decode(package: Any, model: Any, device: Any, runs: int) -> dict[str, Seconds]:
    """A decode step of a whole batch behind HISTORY tokens: eager, as a trace, and Hugging Face's."""
    import ttnn
    from transformers import DynamicCache

    cfg = importlib.import_module(f"{package.__name__}.model_config")
    module = importlib.import_module(f"{package.__name__}.model")
    weights = importlib.import_module(f"{package.__name__}.weights").Weights(device, model.state_dict())
    program = getattr(module, type(model).__name__)(device, weights)
    kv_cache = program.allocate_kv_cache()
    tokens = torch.randint(0, cfg.VOCAB_SIZE, (cfg.BATCH,))
    inputs = program.prepare_decode_inputs(tokens, torch.full((cfg.BATCH,), HISTORY), program.page_table())

    def eager() -> None:
        program.read_logits(program.decode_forward(**inputs, kv_cache=kv_cache))

    eager()
    trace = ttnn.begin_trace_capture(device, cq_id=0)
    logits = program.decode_forward(**inputs, kv_cache=kv_cache)
    ttnn.end_trace_capture(device, trace, cq_id=0)

    def replay() -> None:
        ttnn.execute_trace(device, trace, cq_id=0, blocking=True)
        program.read_logits(logits)

    heads, dim = model.config.num_key_value_heads, model.config.head_dim
    past = [torch.randn(cfg.BATCH, heads, HISTORY, dim) for _ in model.model.layers]

    from fx2ttnn.capture.trace import cache_argument

    def reference() -> None:
        cache = DynamicCache()
        for layer, state in enumerate(past):
            cache.update(state, state, layer)
        with torch.no_grad():
            model(input_ids=tokens[:, None], **{cache_argument(model): cache})

    return in_turns(runs, eager=eager, replay=replay, reference=reference)


class Prefill:
    """The decoder layers of a Qwen3 or Llama for one user's prompt, the same weights on every chip."""

    def __init__(self, model: Any, device: Any) -> None:
        import ttnn

        self.ttnn, self.device, self.config = ttnn, device, model.config
        self.layers = [self._weights(layer) for layer in model.model.layers]
        cos, sin = model.model.rotary_emb(torch.zeros(1), torch.arange(PROMPT)[None])
        self.cos, self.sin = self.put(cos[None]), self.put(sin[None])
        self.pages = self.put(torch.arange(8)[None].int(), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)

    def put(self, value: torch.Tensor, dtype: Any = None, layout: Any = None) -> Any:
        ttnn = self.ttnn
        return ttnn.from_torch(
            value,
            dtype=dtype or ttnn.bfloat16,
            layout=layout or ttnn.TILE_LAYOUT,
            device=self.device,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
            mesh_mapper=ttnn.ReplicateTensorToMesh(self.device),
        )

    def _weights(self, layer: Any) -> dict[str, Any]:
        attention, mlp, bfp8 = layer.self_attn, layer.mlp, self.ttnn.bfloat8_b
        qkv = torch.cat([p.weight for p in (attention.q_proj, attention.k_proj, attention.v_proj)])
        products = {"qkv": qkv, "out": attention.o_proj.weight}
        products |= {"gate": mlp.gate_proj.weight, "up": mlp.up_proj.weight, "down": mlp.down_proj.weight}
        norms = {"before": layer.input_layernorm, "after": layer.post_attention_layernorm}
        norms |= {"q": attention.q_norm, "k": attention.k_norm} if hasattr(attention, "q_norm") else {}
        empty = torch.zeros(8, self.config.num_key_value_heads, 64, self.config.head_dim)
        return {
            **{name: self.put(weight.detach().T.contiguous(), bfp8) for name, weight in products.items()},
            **{name: self.put(norm.weight.detach().reshape(1, 1, 1, -1)) for name, norm in norms.items()},
            "caches": [self.put(empty, bfp8) for _ in "kv"],
        }

    def __call__(self, hidden: Any) -> Any:
        """[1, 1, PROMPT, hidden size] -> the same shape."""
        for layer in self.layers:
            hidden = self._layer(hidden, **layer)
        return hidden

    def _layer(self, x: Any, before: Any, qkv: Any, out: Any, after: Any, gate: Any, up: Any, down: Any, caches: Any,
               q: Any = None, k: Any = None) -> Any:  # fmt: skip
        ttnn, config = self.ttnn, self.config
        eps = config.rms_norm_eps
        fused = self._linear(ttnn.rms_norm(x, epsilon=eps, weight=before), qkv)
        query, key, value = ttnn.experimental.nlp_create_qkv_heads(
            fused,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            transpose_k_heads=False,
        )
        if q is not None:
            query, key = (ttnn.rms_norm(t, epsilon=eps, weight=w) for t, w in ((query, q), (key, k)))
        query, key = (ttnn.experimental.rotary_embedding_hf(t, self.cos, self.sin) for t in (query, key))
        for cache, states in zip(caches, (key, value), strict=True):
            ttnn.experimental.paged_fill_cache(cache, ttnn.typecast(states, ttnn.bfloat8_b), self.pages, batch_idx=0)
        attended = ttnn.transformer.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = ttnn.add(x, self._linear(ttnn.experimental.nlp_concat_heads(attended), out))
        h = ttnn.rms_norm(x, epsilon=eps, weight=after)
        silu = [ttnn.UnaryOpType.SILU]
        h = ttnn.multiply(self._linear(h, gate), self._linear(h, up), input_tensor_a_activations=silu)
        return ttnn.add(x, self._linear(h, down))

    def _linear(self, x: Any, weight: Any) -> Any:
        """With the sums in float32, as in a package."""
        ttnn = self.ttnn
        compute = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi2, fp32_dest_acc_en=True)
        return ttnn.linear(x, weight, compute_kernel_config=compute)


def prefill(model: Any, device: Any, runs: int) -> dict[str, Seconds]:
    """The layers on a prompt of PROMPT tokens; both start from embeddings, and agree."""
    import ttnn

    program, hidden = Prefill(model, device), torch.randn(1, PROMPT, model.config.hidden_size)
    x = program.put(hidden[None])
    found: dict[str, torch.Tensor] = {}

    def emulated() -> None:
        found["emulated"] = ttnn.to_torch(ttnn.get_device_tensors(program(x))[0])

    def reference() -> None:
        with torch.no_grad():
            states = model.model(inputs_embeds=hidden.bfloat16().float(), output_hidden_states=True, use_cache=True)
        found["reference"] = states.hidden_states[-1]

    model.model.norm.forward = lambda states: states  # the program ends with the last layer
    seconds = in_turns(runs, prefill=emulated, reference=reference)
    pair = torch.stack([found[name].float().flatten() for name in ("emulated", "reference")])
    print(f"prefill: correlation with Hugging Face {torch.corrcoef(pair)[0, 1]:.5f}")
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen3-0.6b")
    parser.add_argument("--target", default="n150")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--package", type=Path, help="an emitted package of that target and that many layers")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    from fx2ttnn.emulate import emulated_mesh

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, emulated_mesh(target=arguments.target) as device:
        path = arguments.package or emitted(arguments.model, arguments.target, arguments.layers, Path(folder))
        package = imported(path)
        model = hugging_face(package, arguments.layers)
        step = decode(package, model, device, arguments.runs)
        print(
            f"{arguments.model} with {arguments.layers} layers on {arguments.target}, {torch.get_num_threads()} threads"
        )
        print(step["eager"].against("decode step", step["reference"]))
        print(step["replay"].against("trace replay", step["reference"]))
        prompt = prefill(model, device, arguments.runs)
        print(prompt["prefill"].against(f"prefill of {PROMPT}", prompt["reference"]))


if __name__ == "__main__":
    main()
