"""What a package writes on the emulator, in a process of its own: `python text_on_mesh.py JOB.json`.

The job: `package`, `weights`, `prompts` (token ids), `expected` (a reference's greedy tokens), `out`, a file for torch.save: the
tokens written and their logits; where the tokens are others than the reference's, the logits with those fed.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch

from fx2ttnn import run


def main(job: dict) -> None:
    """Do the job."""
    run._import_package(Path(job["package"]))
    from package_that_runs.backend import open_backend  # type: ignore[import-not-found]
    from package_that_runs.generator import build_generator  # type: ignore[import-not-found]

    seconds, start = {}, time.perf_counter()
    with open_backend() as (mesh_device, backend):
        generator = build_generator(job["weights"], mesh_device, progress=False)
        seconds["weights"] = time.perf_counter() - start
        count = max(map(len, job["expected"]))
        tokens, logits = generator.generate(job["prompts"], count, return_logits=True)
        if tokens != job["expected"]:
            _, logits = generator.generate(job["prompts"], count, next_input=job["expected"], return_logits=True)
        seconds["text"] = time.perf_counter() - start - seconds["weights"]
        chips = mesh_device.get_num_devices()
    torch.save({"tokens": tokens, "logits": logits, "seconds": seconds, "backend": backend, "chips": chips}, job["out"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
    sys.stdout.flush()
    os._exit(0)
