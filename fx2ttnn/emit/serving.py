"""vllm.json of a package: how vLLM with Tenstorrent's plugin is to be started for it."""

from __future__ import annotations

from typing import Any

from fx2ttnn.emit.paging import paging
from fx2ttnn.lower import BLOCK_SIZE
from fx2ttnn.lower.program import Program
from fx2ttnn.recognise.tables import border_of

SERVED = "ServedModel"  # the class of vllm_adapter.py
# DRAM of a chip for a captured trace. Hand-written models of the Galaxy keep 185 MB for a step and the chunks of four lengths (docs/sources.md, Galaxy demo).
TRACE_BYTES = 64 << 20


def trace_region_bytes(program: Program) -> int:
    """For a decode step with sampling, and a chunk of each length."""
    return TRACE_BYTES * (1 + len(program.lengths))


def how_to_serve(program: Program, class_name: str) -> dict[str, Any]:
    """The architecture that vLLM knows the model by, the environment, and the options of `vllm serve`.

    A package whose users are divided over groups of chips wants one lane of the plugin for each. The plugin has lanes for what it takes
    for the Galaxy's own generator, which it knows by TT_QWEN3_TEXT_VER; its built-in models are left out then.
    vLLM looks for a model's architecture before the plugin has put TT in front of its name, which is how the plugin registers a bundle: so it is asked for by
    that name. Then vLLM need not know the architecture, and of one that it knows its own class, which may want images, is not asked.
    """
    plan, capture = program.plan, program.plan.capture
    target, pages = plan.target, paging(program)
    lanes = -(-capture.users // pages["users"])  # groups that have users
    tt: dict[str, Any] = {"trace_region_size": trace_region_bytes(program), "sample_on_device_mode": "all"}
    if program.host_operations():
        tt["trace_mode"] = "none"
    if target.chips > 1:
        tt |= {"fabric_config": target.fabric, "l1_small_size": target.l1_small_bytes}
    if target.prefetching:
        tt["dispatch_core_axis"] = "col"
    environment = {"MESH_DEVICE": str(target.mesh_shape), "TT_VLLM_BUILTIN_MODELS": "0"}
    if lanes > 1:
        environment["TT_QWEN3_TEXT_VER"] = "qwen3_32b_galaxy"
    border = border_of(capture.graph)  # longer texts would have to be read anew, which vLLM does not do
    arch = (capture.config.get("architectures") or [class_name])[0]
    options = {
        "--hf-overrides": {"architectures": [f"TT{arch}"]},
        "--block-size": BLOCK_SIZE,
        "--max-model-len": min(capture.max_seq_len, border or capture.max_seq_len),
        "--max-num-seqs": capture.users - (lanes - 1) * pages["users"],  # of each lane
        "--additional-config": {"tt": tt},
    }
    if lanes > 1:
        options["--data-parallel-size"] = lanes
    return {
        "arch": arch,
        "class": f"vllm_adapter:{SERVED}",
        "environment": environment,
        "options": options,
    }
