"""vLLM's engine with Tenstorrent's plugin over a package, in one process: `python serve_engine.py PACKAGE MODEL MANY`.

MODEL is a folder of a model with random weights. MANY prompts of all lengths join and leave, then two that begin with pages which are cached. With MANY 0 two
prompts have so few pages that one of them is preempted. Prints for each whether every greedy token is Hugging Face's best behind those before it, or near it,
and how many prompts the model was given.
"""

import importlib
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
    given = watched(package, few=not many)
    engine = LLMEngine.from_engine_args(
        EngineArgs(
            model=str(model),
            skip_tokenizer_init=True,
            max_model_len=min(512 if many else 256, options["--max-model-len"]),
            max_num_seqs=options["--max-num-seqs"] if many else 2,
            data_parallel_size=options.get("--data-parallel-size", 1),
            block_size=options["--block-size"],
            hf_overrides=options["--hf-overrides"],
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
    if many:
        prompts["cached"] = prompts["prompt 3"]  # two of its pages are there
        prompts["a part cached"] = prompts["prompt 3"][:64] + prompts["prompt 1"]
    else:  # of four pages each needs a third, soon
        prompts = {name: torch.randint(3, vocabulary, (127,)).tolist() for name in ("first", "second")}
    waiting, found = dict(prompts), {}
    step = 0
    while waiting or engine.has_unfinished_requests():
        fresh = 4 if step == 0 else 1  # then one joins at each step
        for name in list(waiting)[:fresh]:
            engine.add_request(
                name,
                {"prompt_token_ids": waiting.pop(name)},
                SamplingParams(
                    temperature=0, max_tokens=3 + len(name) % 4 if many else 8, detokenize=False, ignore_eos=True
                ),
            )
        for output in engine.step():
            if output.finished:
                found[output.request_id] = (list(output.outputs[0].token_ids), output.num_cached_tokens)
        step += 1
    for name, prompt in prompts.items():
        tokens, cached = found[name]
        with torch.no_grad():
            logits = reference(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        short = logits.amax(-1) - logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        near = bool((short < NEAR * logits.std()).all())
        print(
            json.dumps(
                {"name": name, "near": near, "best": int((short == 0).sum()), "tokens": len(tokens), "cached": cached}
            )
        )
    print(json.dumps({"name": "prompts given", "count": len(given)}))


def watched(package: Path, few: bool) -> list[int]:
    """The lengths of the prompts that the package's adapter will be given; with `few` it says that it has room for 192 tokens."""
    sys.path.append(os.environ["EXTRA_MODELS_DIR"] + "/" + package.name)
    adapter = importlib.import_module(f"{package.name}.vllm_adapter").ServedModel
    given: list[int] = []
    prefill = adapter.prefill_forward

    def watch(self, *, prompt_lens, **kwargs):
        given.extend(int(length) for length in prompt_lens)
        return prefill(self, prompt_lens=prompt_lens, **kwargs)

    adapter.prefill_forward = watch
    if few:
        adapter.get_max_tokens_all_users = classmethod(lambda cls, **kwargs: 192)
    return given


if __name__ == "__main__":
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
