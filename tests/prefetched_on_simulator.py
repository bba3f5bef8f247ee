"""The matmuls of a package that prefetches, on one chip of the vendor's simulator: `python prefetched_on_simulator.py PACKAGE`.

The package's own prefetcher, buffer, sub-devices and configurations; the collectives between its matmuls need more chips and are left
out. Fast dispatch: ttnn has no sub-devices without. Prints and checks the PCC of each matmul against torch, without and with a bias,
which lies in DRAM as it does in packages and is added beside the prefetcher; then of operations on heads that are told their cores.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from fx2ttnn import targets
from fx2ttnn.simulate import simulator_environment

MATMULS = ("qkv_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def on_heads(ttnn, torch, cfg, put):
    """Names of operations, what they gave, and what torch gives. `put`: a torch tensor on the device, in interleaved L1 or as said."""
    columns, heads = torch.randn(1, 1, 32, 320).bfloat16(), torch.randn(1, 32, 5, 64).bfloat16()
    one, slopes = torch.randn(1, 32, 1, 64).bfloat16(), torch.randn(1, 1, 5, 64).bfloat16()
    workers = [(core.x, core.y) for core in ttnn.corerange_to_cores(cfg.WORKER_CORES, row_wise=True)]

    def on(layout, count, shape):
        return cfg.sharded(layout, ttnn.BufferType.L1, shape, [(core, core) for core in workers[:count]])

    of_users = on(ttnn.TensorMemoryLayout.HEIGHT_SHARDED, 32, (32, 64))
    qkv = put(columns, on(ttnn.TensorMemoryLayout.WIDTH_SHARDED, 5, (32, 64)))
    told = {"memory_config": ttnn.L1_MEMORY_CONFIG, "sub_core_grids": cfg.WORKER_CORES}
    split = columns.reshape(1, 32, 5, 64)
    yield "reshape", ttnn.reshape(put(columns), [1, 32, 5, 64], **told), split
    for name, other in (("one head", one), ("slopes", slopes)):
        yield f"add {name}", ttnn.add(put(heads), put(other), **told), heads.float() + other
        yield f"multiply {name}", ttnn.multiply(put(heads), put(other), **told), heads.float() * other
    made = ttnn.experimental.nlp_create_qkv_heads_decode(qkv, num_heads=3, num_kv_heads=1, memory_config=of_users)
    yield from zip(("query", "key", "value"), made, split.split((3, 1, 1), dim=2), strict=True)
    yield "to interleaved", ttnn.to_memory_config(made[0], ttnn.L1_MEMORY_CONFIG), split[:, :, :3]
    yield "to sharded", ttnn.to_memory_config(put(heads), of_users), heads


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

    def put(x, memory=ttnn.L1_MEMORY_CONFIG):
        return to_mesh(device, x, (None, None), ttnn.bfloat16, memory_config=memory)

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
        biases[name] = bias, put(bias, ttnn.DRAM_MEMORY_CONFIG)
        x = torch.randn(1, 1, 32, rows)
        inputs[name] = x, put(x, cores)
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

        def compare(name, output, expected):
            got = ttnn.to_torch(output).float()[tuple(map(slice, expected.shape))]
            pcc = torch.corrcoef(torch.stack([got.flatten(), expected.float().flatten()]))[0, 1].item()
            print(f"{name}: PCC {pcc:.6f}", flush=True)
            assert pcc > 0.9999, name

        for name, output, expected in on_heads(ttnn, torch, cfg, put):
            compare(name, output, expected)
        for name, outputs in found.items():
            rounded = ttnn.to_torch(weights[name]).float()
            product = inputs[name][0].bfloat16().float() @ rounded
            for said, output, expected in zip(
                ("", ", with bias"), outputs, (product, product + biases[name][0]), strict=True
            ):
                compare(f"{name} {tuple(rounded.shape)}{said}", output, expected)
    print("all right", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
