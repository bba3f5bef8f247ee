"""vLLM's engine with Tenstorrent's plugin over a package, in one process: `python serve_engine.py PACKAGE MODEL MANY`.

MODEL is a folder of a model with random weights. Prompts of all lengths join and leave, MANY at a time, one of them twice (its prefix is cached), and two
that are preempted where pages are few. Prints for each whether the greedy tokens are Hugging Face's, up to where its two best logits are near.
"""

import json
import os
import sys
from pathlib import Path

NEAR = 0.1  # of the logits' standard deviation: rounding decides


def main(package: Path, model: Path, many: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from vllm import EngineArgs, LLMEngine, SamplingParams

    options = json.loads((package / "vllm.json").read_text())["options"]
    engine = LLMEngine.from_engine_args(
        EngineArgs(
            model=str(model),
            skip_tokenizer_init=True,
            max_model_len=min(512, options["--max-model-len"]),
            max_num_seqs=options["--max-num-seqs"],
            data_parallel_size=options.get("--data-parallel-size", 1),
            block_size=options["--block-size"],
            additional_config=options["--additional-config"],
        )
    )
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    torch.manual_seed(0)
    vocabulary = reference.config.vocab_size
    prompts = {
        f"prompt {n}": torch.randint(3, vocabulary, (length,)).tolist()
        for n, length in zip(range(many), [3, 40, 70, 130, 10, 65, 200, 128] * many, strict=False)
    }
    prompts["cached"] = prompts["prompt 3"]  # two of its pages are there
    prompts["a part cached"] = prompts["prompt 3"][:64] + prompts["prompt 1"]
    waiting, found = dict(prompts), {}
    step = 0
    while waiting or engine.has_unfinished_requests():
        fresh = 4 if step == 0 else 1  # then one joins at each step
        for name in list(waiting)[:fresh]:
            engine.add_request(
                name,
                {"prompt_token_ids": waiting.pop(name)},
                SamplingParams(temperature=0, max_tokens=3 + len(name) % 4, detokenize=False, ignore_eos=True),
            )
        for output in engine.step():
            if output.finished:
                found[output.request_id] = (list(output.outputs[0].token_ids), output.num_cached_tokens)
        step += 1
    for name, prompt in prompts.items():
        tokens, cached = found[name]
        with torch.no_grad():
            logits = reference(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        best = logits.topk(2).values
        near = next((n for n, (a, b) in enumerate(best) if a - b < NEAR * logits.std()), len(tokens))
        same = tokens[:near] == logits.argmax(-1).tolist()[:near]
        print(json.dumps({"name": name, "same": same, "compared": near, "tokens": len(tokens), "cached": cached}))


if __name__ == "__main__":
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
