"""vLLM's engine with Tenstorrent's plugin over a package, in one process: `python serve_engine.py PACKAGE MODEL MANY`.

MODEL is a folder of a model with random weights. MANY prompts of all lengths join and leave, then two that begin with pages which are cached. With MANY 0 two
prompts have so few pages that one of them is preempted. Prints for each whether every greedy token is Hugging Face's best behind those before it, or near it,
how many prompts the model was given, and how many steps went on with tokens that only the mesh knew. With MANY a text is also drawn with a seed, alone and in company.
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
    given, steps = watched(package, few=not many)
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
    ends = {"detokenize": False, "ignore_eos": True}
    asked = {
        name: (prompt, SamplingParams(temperature=0, max_tokens=3 + len(name) % 4 if many else 8, **ends))
        for name, prompt in prompts.items()
    }
    found = written(engine, asked)
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
    print(json.dumps({"name": "calls", "prompts": len(given), "resident": sum(steps)}))
    if many:
        drawn = {"temperature": 2.0, "max_tokens": 5, **ends}
        wanted = {top_k: SamplingParams(top_k=top_k, seed=7, **drawn) for top_k in (8, 0)}  # by the mesh, on the host
        alone = {
            top_k: written(engine, {"alone": (prompts["prompt 1"], params)})["alone"][0]
            for top_k, params in wanted.items()
        }
        company = {f"company {n}": (prompts[f"prompt {n}"], SamplingParams(top_k=8, seed=n, **drawn)) for n in range(3)}
        company["greedy"] = (
            prompts["prompt 1"],
            SamplingParams(temperature=0, repetition_penalty=1.5, max_tokens=5, **ends),
        )
        asked = {str(top_k): (prompts["prompt 1"], params) for top_k, params in wanted.items()}
        joined = written(engine, company | asked)
        same = [joined[str(top_k)][0] == alone[top_k] for top_k in wanted]
        texts = {tuple(tokens) for tokens, _ in joined.values()}
        print(json.dumps({"name": "seeds", "same": same, "different": len(texts) == len(joined)}))


def written(engine, asked: dict[str, tuple[list[int], object]]) -> dict[str, tuple[list[int], int]]:
    """The tokens that the engine writes behind prompts, and how many of the prompt were cached; four begin, then one joins at each step."""
    waiting, found, step = dict(asked), {}, 0
    while waiting or engine.has_unfinished_requests():
        fresh = 4 if step == 0 else 1
        for name in list(waiting)[:fresh]:
            prompt, params = waiting.pop(name)
            engine.add_request(name, {"prompt_token_ids": prompt}, params)
        for output in engine.step():
            if output.finished:
                found[output.request_id] = (list(output.outputs[0].token_ids), output.num_cached_tokens)
        step += 1
    return found


def watched(package: Path, few: bool) -> tuple[list[int], list[bool]]:
    """The lengths of the prompts that the package's adapter will be given, and of each step whether it goes on with the mesh's own tokens.

    With `few` the adapter says that it has room for 192 tokens.
    """
    sys.path.append(os.environ["EXTRA_MODELS_DIR"] + "/" + package.name)
    adapter = importlib.import_module(f"{package.name}.vllm_adapter").ServedModel
    given: list[int] = []
    steps: list[bool] = []
    prefill, commands = adapter.prefill_forward, adapter._commands

    def watch(self, *, prompt_lens, **kwargs):
        given.extend(int(length) for length in prompt_lens)
        return prefill(self, prompt_lens=prompt_lens, **kwargs)

    def watch_steps(self, *args, **kwargs):
        found = commands(self, *args, **kwargs)
        steps.append(not found[0])
        return found

    adapter.prefill_forward, adapter._commands = watch, watch_steps
    if few:
        adapter.get_max_tokens_all_users = classmethod(lambda cls, **kwargs: 192)
    return given, steps


if __name__ == "__main__":
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
