"""The router and experts of a mixture's package that prefetches, on one chip of the vendor's simulator: `python mixture_on_simulator.py PACKAGE`.

The package's own decode_forward beside its prefetcher, with a chip's part of random weights; only the sums over chips are left out.
Fast dispatch: ttnn has no sub-devices without. Prints and checks the PCC against torch.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from fx2ttnn import targets
from fx2ttnn.simulate import simulator_environment

LOWEST = 0.9999


def main(package: Path) -> None:
    os.environ |= simulator_environment(targets.load("n150"), fast_dispatch=True)
    import torch
    import ttnn
    import ttnn.experimental

    sys.path.insert(0, str(package.parent))
    names = ("model_config", "mesh", "prefetcher", "weights", "gate", "moe")
    cfg, mesh, prefetcher, weights, gate, moe = (importlib.import_module(f"{package.name}.{name}") for name in names)
    cfg.MESH_SHAPE = (1, 1)
    columns = ttnn.DispatchCoreConfig(ttnn.DispatchCoreType.WORKER, ttnn.DispatchCoreAxis.COL)
    device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), dispatch_core_config=columns)
    ttnn.experimental.all_reduce_async = lambda x, **how: x
    torch.manual_seed(0)

    def only(module):
        """Its one class."""
        return next(c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__)

    def placed(value, memory):
        made = mesh.to_mesh(device, value, (None, None), ttnn.bfloat8_b, memory_config=memory)
        return made, ttnn.to_torch(made).float()

    inputs = cfg.GATE_PROJ_WEIGHT_MEMORY.shard_spec.shape[0]
    experts = cfg.COLUMNS_ON_RING_WEIGHT_MEMORY.shard_spec.shape[0]
    inner = cfg.DOWN_PROJ_WEIGHT_MEMORY.shard_spec.shape[0]
    config = json.loads((package / "config.json").read_text())
    each, chosen = config["moe_intermediate_size"], config["num_experts_per_tok"]
    state = {"weight": torch.randn(experts, inputs).bfloat16()}
    held = weights.Weights(device, state)
    block = object.__new__(only(moe))
    block.gate, block.mesh_device = only(gate)(device, held), device
    block.global_cb = held.resources.global_circular_buffer()
    block.semaphore = block.buffer = block.buffer_2 = SimpleNamespace(next=lambda: None)
    wide, own = torch.randn(2, 1, 1, inputs, inner) / inputs**0.5, torch.eye(experts)[:, : inner // each]
    block.gate_proj, gates = placed(wide[0], cfg.GATE_PROJ_WEIGHT_MEMORY)
    block.up_proj, ups = placed(wide[1], cfg.UP_PROJ_WEIGHT_MEMORY)
    block.down_proj, downs = placed(torch.randn(1, 1, inner, inputs) / inner**0.5, cfg.DOWN_PROJ_WEIGHT_MEMORY)
    spread = own.repeat_interleave(each, 1)[None, None]
    block.columns_on_ring, _ = placed(spread, cfg.COLUMNS_ON_RING_WEIGHT_MEMORY)
    x = torch.randn(1, 1, 32, inputs).bfloat16()
    given = mesh.to_mesh(device, x, (None, None), ttnn.bfloat16, memory_config=cfg.RESIDUAL_MEMORY)
    with prefetcher.Prefetcher(device, block.global_cb, [block.prefetched()]).running():
        found = ttnn.to_torch(block.decode_forward(given)).float()
    best = (x.float() @ state["weight"].float().T).topk(chosen)
    routing = torch.zeros(1, 1, 32, experts).scatter(-1, best.indices, best.values.softmax(-1))
    inside = torch.nn.functional.silu(x.float() @ gates) * (x.float() @ ups) * (routing @ spread)
    pcc = torch.corrcoef(torch.stack([found.flatten(), (inside @ downs).flatten()]))[0, 1].item()
    print(f"router and experts: PCC {pcc:.6f}", flush=True)
    assert pcc > LOWEST
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
