"""The generator of this package as tt-metal's readiness check wants it (models/common/readiness_check/contract.py).

The check imports this file by its path and calls `build_generator` on a mesh that it has opened. Where the checkpoint is, FX2TTNN_WEIGHTS
says, or HF_MODEL: a folder, a .gguf file or the id of a model that the hub's cache holds.
"""

import importlib
import os
import sys
from pathlib import Path

import torch

PACKAGE = Path(__file__).resolve().parents[1]


def build_generator(model_dir, mesh_device, *, enable_trace=True, **unknown):
    """The generator over the checkpoint. `model_dir` is the folder of this package, which the file knows itself."""
    found = os.environ.get("FX2TTNN_WEIGHTS") or os.environ.get("HF_MODEL")
    if not found:
        raise ValueError(
            f"{PACKAGE.name} holds no weights: set FX2TTNN_WEIGHTS, or HF_MODEL, to a checkpoint of its model"
        )
    sys.path.insert(0, str(PACKAGE.parent))
    try:
        adapter = importlib.import_module(f"{PACKAGE.name}.vllm_adapter")
    finally:
        sys.path.remove(str(PACKAGE.parent))
    return ReadinessGenerator(adapter.generator_on(mesh_device, found), enable_trace)


class ReadinessGenerator:
    """The contract's generator over that of the package. Arguments that it does not know it ignores, as the contract asks."""

    def __init__(self, generator, enable_trace=True):
        self.generator, self.mesh_device, self.tokenizer = generator, generator.mesh_device, generator.tokenizer
        self._trace = generator.loop.trace and enable_trace

    def prefill_forward(self, tokens, *, page_table, kv_cache, prompt_lens, return_all_logits=False, **unknown):
        """Logits of every prompt's last token, [prompts, 1, vocabulary]. Without `kv_cache` the generator's own cache and pages are used.

        With `return_all_logits` those of all tokens, [prompts, longest, vocabulary]: the prompts run through the decode step token by
        token, as a prefill reads the last tile alone. So it is the decode step whose accuracy they show. Rows behind a prompt's end
        have no meaning.
        """
        lengths = torch.as_tensor(prompt_lens)
        if not return_all_logits:
            kv_cache, page_table = self._place(kv_cache, page_table, len(lengths))
            return self.generator.prefill_forward(
                tokens, page_table=page_table, kv_cache=kv_cache, prompt_lens=prompt_lens
            )
        tokens = torch.as_tensor(tokens)
        steps = [
            self.decode_forward(
                tokens[:, step], torch.where(step < lengths, step, -1), page_table=page_table, kv_cache=kv_cache
            )
            for step in range(int(lengths.max()))
        ]
        return torch.stack(steps, dim=1)

    def decode_forward(self, tokens, start_pos, *, page_table, kv_cache, enable_trace=True, **unknown):
        """Logits of one step, [users, vocabulary]. Without `kv_cache` the generator's own cache and pages are used."""
        tokens = torch.as_tensor(tokens)
        kv_cache, page_table = self._place(kv_cache, page_table, len(tokens))
        self.generator.loop.trace = self._trace and enable_trace
        return self.generator.decode_forward(tokens, start_pos, page_table=page_table, kv_cache=kv_cache)[:, 0]

    def generate(
        self, prompt_token_ids, max_new_tokens, *, next_input=None, stop_on_eos=True, enable_trace=True, **unknown
    ):
        """The best token behind the prompt and each of its followers. `next_input(step, token)` gives the one that is fed in its place."""
        self.generator.loop.trace = self._trace and enable_trace
        return self.generator.generate(
            prompt_token_ids,
            max_new_tokens,
            next_input=next_input and (lambda prompt, step, token: next_input(step, token)),
            stop_tokens=None if stop_on_eos else (),
        )

    def reset(self):
        """Forget the prompts. What the cache holds of them is never read."""
        self.generator.reset()

    def teardown(self):
        """Drop the traces: the mesh may be closed."""
        self.generator.loop.release()

    def _place(self, kv_cache, page_table, users):
        if kv_cache is None:
            return self.generator.kv_cache, self.generator.model.page_table()[:users]
        return kv_cache, page_table
