"""The package behind vLLM: what Tenstorrent's plugin (vllm-tt-plugin) calls, over the generator of this package.

The plugin's worker opens the mesh, vLLM owns the pages of the cache and samples on the host. A user's row is the plugin's slot: with lanes
of `stride` slots each, lane L's slot S is user S of the group L of chips.
"""

import json
import os
from pathlib import Path

import torch
import ttnn

from . import model_config as cfg
from .backend import emulate_here
from .generator import build_generator

LANES = -(-cfg.BATCH // cfg.USERS_PER_GROUP)  # groups of chips with users: lanes of the plugin
SLOTS = cfg.BATCH - (LANES - 1) * cfg.USERS_PER_GROUP  # that every lane has
LONGEST = cfg.MAX_SEQ_LEN  # tokens of a text
SAME = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
)  # a model's as the package's


class ServedModel:
    """What vLLM takes for the model. Only what has a test in tests/serving is declared."""

    model_capabilities = {
        "supports_prefix_caching": True,
        "supports_async_decode": False,
        "supports_sample_on_device": False,
    }

    @classmethod
    def get_max_tokens_all_users(cls, *, max_model_len, max_num_seqs, tt_data_parallel=1, **kwargs):
        """Tokens that the pages of a lane's users hold together; ValueError where the package has not so many users or tokens."""
        check_size(max_num_seqs * tt_data_parallel, max_model_len, tt_data_parallel)
        return max_num_seqs * max_model_len

    @classmethod
    def initialize_vllm_model(
        cls, hf_config, mesh_device, max_batch_size, max_seq_len=None, tt_data_parallel=1, **kwargs
    ):
        """The model on an open mesh. `hf_config` names the checkpoint."""
        check_size(max_batch_size, max_seq_len or LONGEST, tt_data_parallel)
        check_model(hf_config)
        return cls(generator_on(mesh_device, hf_config._name_or_path), max_batch_size // tt_data_parallel)

    def __init__(self, generator, stride=SLOTS):
        """`stride`: slots of a lane."""
        self.generator, self.stride = generator, stride

    def modules(self):
        """None that vLLM would know."""
        return iter(())

    def allocate_kv_cache(self, kv_cache_shape, dtype, num_layers):
        """As many pages for a lane as vLLM counts. Heads, columns and type are the package's own."""
        pages, _, page_size, _ = kv_cache_shape
        if page_size != cfg.PAGE_SIZE:
            raise ValueError(
                f"the package has pages of {cfg.PAGE_SIZE} tokens: --block-size {cfg.PAGE_SIZE}, not {page_size}"
            )
        return self.generator.model.allocate_kv_cache(pages)

    def warmup_model_prefill(self, *, kv_cache, **kwargs):
        """Compile the programs of every chunk."""
        for length in cfg.PREFILL_LENGTHS:
            pages = torch.zeros(1, cfg.PAGES_PER_USER, dtype=torch.int32)
            tokens = torch.zeros(1, min(length, cfg.MAX_SEQ_LEN), dtype=torch.int32)
            self.prefill_forward(
                tokens=tokens, page_table=pages, kv_cache=kv_cache, prompt_lens=[tokens.shape[1]], start_pos=[0]
            )

    def warmup_model_decode(self, *, kv_cache, max_batch_size, num_blocks, enable_trace, **kwargs):
        """Compile a decode step; with `enable_trace` capture it."""
        idle = torch.full((max_batch_size,), -1, dtype=torch.int32)
        pages = torch.zeros(max_batch_size, num_blocks, dtype=torch.int32)
        for _ in range(2):
            self.decode_forward(
                tokens=idle, start_pos=idle, page_table=pages, kv_cache=kv_cache, enable_trace=enable_trace
            )

    def prefill_forward(self, *, tokens, page_table, kv_cache, prompt_lens, start_pos, empty_slots=None, **kwargs):
        """Logits of every prompt's last token, [prompts, 1, VOCAB_SIZE], on the host. `start_pos`: tokens that the cache holds already."""
        slots = range(len(prompt_lens)) if empty_slots is None else empty_slots
        return self.generator.prefill_forward(
            tokens,
            page_table=page_table,
            kv_cache=kv_cache,
            prompt_lens=prompt_lens,
            start_pos=start_pos,
            empty_slots=[self._user(slot) for slot in slots],
        )

    def decode_forward(
        self, *, tokens, start_pos, page_table, kv_cache, enable_trace=True, read_from_device=True, **kwargs
    ):
        """One token for every slot, -1 in `start_pos` for an idle one: logits on the mesh; on the host, [slots, 1, VOCAB_SIZE], where they are asked for.

        Nothing is kept from step to step: where slots have changed their requests (`slot_remap`), rows have moved with them.
        """
        inputs = ((tokens, 0), (start_pos, -1), (page_table, 0))
        tokens, start_pos, page_table = (self._of_users(torch.as_tensor(tensor), idle) for tensor, idle in inputs)
        self.generator.loop.trace = enable_trace
        logits = self.generator.decode_forward(
            tokens, start_pos, page_table=page_table, kv_cache=kv_cache, read_from_device=False
        )
        return self.process_decode_output_host(logits) if read_from_device else logits

    def read_decode_output(self, tt_out, async_read=False):
        """(the step's output on its way to the host, events to wait for)."""
        host = tt_out.cpu(blocking=not async_read)
        return host, [ttnn.record_event(self.generator.mesh_device, 0)] if async_read else []

    def process_decode_output_host(self, tt_out, is_tokens=False):
        """Logits of a step by slot, [slots, 1, VOCAB_SIZE]."""
        return self.generator.read_decode_output(tt_out)[self._users()]

    def _user(self, slot):
        lane, row = divmod(slot, self.stride)
        return lane * cfg.USERS_PER_GROUP + row

    def _users(self):
        return torch.tensor([self._user(slot) for slot in range(self.stride * LANES)])

    def _of_users(self, tensor, idle):
        """Rows of slots -> rows of users, of which those that are no slot's are idle."""
        rows = torch.full((cfg.BATCH, *tensor.shape[1:]), idle, dtype=tensor.dtype)
        rows[self._users()[: tensor.shape[0]]] = tensor
        return rows


def generator_on(mesh_device, name):
    """The generator of the checkpoint `name` on a mesh that somebody else has opened. Weights are kept in FX2TTNN_WEIGHT_CACHE, where that is set."""
    if tuple(mesh_device.shape) != cfg.MESH_SHAPE:
        raise ValueError(
            f"the mesh is {tuple(mesh_device.shape)}; this package is for {cfg.TARGET}, {cfg.MESH_SHAPE}: set MESH_DEVICE"
        )
    emulate_here(mesh_device)
    return build_generator(checkpoint(name), mesh_device, cache=os.environ.get("FX2TTNN_WEIGHT_CACHE"))


def check_size(users, tokens, lanes):
    """ValueError unless the package has so many users, tokens of each and lanes."""
    if lanes != LANES:
        wanted = f"--data-parallel-size {LANES} (lanes)" if LANES > 1 else "no lanes"
        raise ValueError(
            f"the package has users on {LANES} groups of chips, each with pages of its own: it wants {wanted}, not {lanes}"
        )
    if users > SLOTS * lanes:
        raise ValueError(
            f"{users} users are more than the package serves, {SLOTS * lanes}: --max-num-seqs {SLOTS} or less"
        )
    if tokens > LONGEST:
        raise ValueError(f"{tokens} tokens are more than the {LONGEST} that a text may have: --max-model-len")


def check_model(hf_config):
    """ValueError where the model that vLLM was given is another one than the package's."""
    own = json.loads((Path(__file__).parent / "config.json").read_text())
    given = hf_config.get_text_config()
    for name in SAME:
        if name in own and getattr(given, name, own[name]) != own[name]:
            raise ValueError(
                f"the model has {name} {getattr(given, name)}, the package was made for {own[name]}: compile the model again"
            )


def checkpoint(name):
    """A model's files: `name` itself where that is a path, or the folder of what the hub's cache holds under that id."""
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, local_files_only=bool(os.environ.get("HF_HUB_OFFLINE"))))
