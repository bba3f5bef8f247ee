"""The matmuls of a package that prefetches, on one chip of the vendor's simulator: `python prefetched_on_simulator.py PACKAGE`.

The package's own prefetcher, buffer, sub-devices and configurations; the collectives between its matmuls need more chips and are left
out. Fast dispatch: ttnn has no sub-devices without. Prints and checks the PCC of each matmul against torch, without and with a bias,
which lies in DRAM as it does in packages and is added beside the prefetcher.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from fx2ttnn import targets
from fx2ttnn.simulate import simulator_environment

MATMULS = ("qkv_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main(package: Path) -> None:
    os.environ |= simulator_environment(targets.load("n150"), fast_dispatch=True)
    import torch
    import ttnn

    sys.path.insert(0, str(package.parent))
    part = {name: importlib.import_module(f"{package.name}.{name}") for name in ("model_config", "mesh", "prefetcher")}
    cfg, to_mesh = part["model_config"], part["mesh"].to_mesh
    cfg.MESH_SHAPE = (1, 1)
    device = ttnn.open_mesh_device(
        ttnn.MeshShape(1, 1),
        dispatch_core_config=ttnn.DispatchCoreConfig(ttnn.DispatchCoreType.WORKER, ttnn.DispatchCoreAxis.COL),
    )
    torch.manual_seed(0)
    weights, inputs, biases = {}, {}, {}
    for name in MATMULS:
        memory = getattr(cfg, f"{name.upper()}_WEIGHT_MEMORY")
        rows, columns = memory.shard_spec.shape[0], getattr(cfg, f"{name.upper()}_DECODE_PROGRAM").per_core_N
        weight = torch.randn(1, 1, rows, 24 * columns * 32) / rows**0.5
        weights[name] = to_mesh(device, weight, (None, None), ttnn.bfloat8_b, memory_config=memory)
        cores = cfg.sharded(
            ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.L1, (32, -(-rows // 768) * 32), cfg.RING_CORES
        )
        bias = torch.randn(1, 1, 1, 24 * columns * 32)
        biases[name] = bias, to_mesh(device, bias, (None, None), ttnn.bfloat16, memory_config=ttnn.DRAM_MEMORY_CONFIG)
        x = torch.randn(1, 1, 32, rows)
        inputs[name] = x, to_mesh(device, x, (None, None), ttnn.bfloat16, memory_config=cores)
    buffer = part["prefetcher"].GlobalCircularBuffer(device)
    prefetcher = part["prefetcher"].Prefetcher(device, buffer, [list(weights.values())])
    found = {}
    with prefetcher.running():
        for name, weight in weights.items():
            program = getattr(cfg, f"{name.upper()}_DECODE_PROGRAM")
            output = cfg.sharded(
                ttnn.TensorMemoryLayout.WIDTH_SHARDED,
                ttnn.BufferType.L1,
                (32, program.per_core_N * 32),
                cfg.RECEIVER_CORES,
            )
            product = ttnn.matmul(
                inputs[name][1],
                weight,
                dtype=ttnn.bfloat16,
                program_config=program,
                memory_config=output,
                compute_kernel_config=cfg.COMPUTE_HIFI2,
                global_cb=buffer.get(),
                sub_device_id=cfg.WORKERS,
            )
            found[name] = product, ttnn.add(product, biases[name][1], dtype=ttnn.bfloat16, memory_config=output)
        for name, outputs in found.items():
            rounded = ttnn.to_torch(weights[name]).float()
            product = inputs[name][0].bfloat16().float() @ rounded
            for said, output, expected in zip(
                ("", ", with bias"), outputs, (product, product + biases[name][0]), strict=True
            ):
                got = ttnn.to_torch(output).float()
                pcc = torch.corrcoef(torch.stack([got.flatten(), expected.flatten()]))[0, 1].item()
                print(f"{name} {tuple(rounded.shape)}{said}: PCC {pcc:.6f}", flush=True)
                assert pcc > 0.9999, name + said
    print("all right", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
