"""The package behind vLLM: what Tenstorrent's plugin (vllm-tt-plugin) calls, over the generator of this package.

The plugin's worker opens the mesh, vLLM owns the pages of the cache. Tokens are drawn on the mesh, or by vLLM from logits on the host, as the plugin asks at
each call. A user's row is the plugin's slot: with lanes of `stride` slots each, lane L's slot S is user S of the group L of chips.
"""

import json
import os
from pathlib import Path

import torch
import ttnn

from . import model_config as cfg
from .backend import emulate_here
from .decode_loop import GREEDY, MAX_TOP_K
from .generator import build_generator
from .inputs import own_pages
from .vllm_sampling import Draw

LANES = -(-cfg.BATCH // cfg.USERS_PER_GROUP)  # groups of chips with users: lanes of the plugin
SLOTS = cfg.BATCH - (LANES - 1) * cfg.USERS_PER_GROUP  # that every lane has
LONGEST = cfg.MAX_SEQ_LEN  # tokens of a text
ON_HOST = (torch.Tensor, tuple)  # outputs of a step that are read already
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
        "supports_chunked_prefill": True,
        "supports_async_decode": True,
        "supports_sample_on_device": True,
        "max_device_top_k": MAX_TOP_K,
        "supports_device_penalties": False,
    }
    # The plugin says at each step what is to be loaded; see `_commands` for one that does not.
    decode_input_update_contract = 1

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

    def __init__(self, generator, stride=SLOTS, **unused):
        """`stride`: slots of a lane."""
        self.generator, self.stride = generator, stride
        self._positions = []  # of the tokens that are fed next, by slot; -1: idle
        self._draws = []  # by slot
        self._pages = None  # the page table that the mesh has
        self._resident = False  # whether the mesh has drawn the tokens that are fed next

    def _of_vllm(self, *args, **kwargs):
        raise NotImplementedError("the plugin calls prefill_forward and decode_forward")

    embed_input_ids = forward = compute_logits = _of_vllm  # by which vLLM knows a model that generates text

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

    def warmup_model_prefill(self, *, kv_cache, enable_trace, **kwargs):
        """Compile the programs of every chunk, and of drawing the token behind a prompt; with `enable_trace` capture the chunks."""
        self.generator.loop.trace = enable_trace
        self.generator.warm_up_prompts(kv_cache)

    def warmup_model_decode(self, *, kv_cache, enable_trace, **kwargs):
        """Compile a decode step and drawing; with `enable_trace` capture them."""
        self.generator.loop.trace = enable_trace
        self.generator.warm_up_steps(kv_cache)

    def prefill_forward(
        self,
        *,
        tokens,
        page_table,
        kv_cache,
        prompt_lens,
        start_pos,
        enable_trace=True,
        empty_slots=None,
        sampling_params=None,
        **kwargs,
    ):
        """Logits of every prompt's last token, [prompts, 1, VOCAB_SIZE], on the host; with `sampling_params` the tokens behind the prompts.

        `start_pos`: tokens that the cache holds already, from another prompt or from an earlier part of this one.
        """
        self.generator.loop.trace = enable_trace
        slots = range(len(prompt_lens)) if empty_slots is None else empty_slots
        prompts = {
            "page_table": page_table,
            "kv_cache": kv_cache,
            "prompt_lens": prompt_lens,
            "start_pos": start_pos,
            "empty_slots": [self._user(slot) for slot in slots],
        }
        if sampling_params is None:
            return self.generator.prefill_forward(tokens, **prompts)
        loop, lengths = self.generator.loop, [int(length) for length in prompt_lens]
        draws = [Draw.of(sampling_params, row) for row in range(len(lengths))]
        wanted = any(draw.log_prob for draw in draws)
        chosen, rows = [], []
        found = self.generator.run_prompts(tokens, **prompts)
        for row, ((logits, last), draw, length) in enumerate(zip(found, draws, lengths)):
            if wanted or not draw.on_mesh:
                rows.append(self.generator.model.read_rows(logits)[last])
            if draw.on_mesh:
                chosen.append(loop.read(loop.draw_prompt(logits, draw.settings, draw.seed_of(length)))[last])
            else:
                chosen.append(draw.choose(rows[-1], length, torch.as_tensor(tokens)[row, :length]))
        drawn = torch.as_tensor(chosen)
        return (drawn, log_probs(torch.stack(rows), drawn)) if wanted else drawn

    def decode_forward(
        self,
        *,
        tokens,
        start_pos,
        page_table,
        kv_cache,
        enable_trace=True,
        read_from_device=True,
        sampling_params=None,
        prompt_tokens=None,
        output_tokens=None,
        slot_remap=None,
        **commands,
    ):
        """One token for every slot, -1 in `start_pos` for an idle one: logits on the mesh, or with `sampling_params` the tokens that are drawn from them.

        With `read_from_device` they are on the host: [slots, 1, VOCAB_SIZE] or [slots]; so are tokens of which one must be drawn there.
        `tokens` and `start_pos` count only where all is loaded anew: without that the mesh goes on with the tokens that it has drawn.
        """
        loop, page_table = self.generator.loop, torch.as_tensor(page_table)
        inputs, pages, parameters = self._commands(sampling_params, page_table, **commands)
        loop.trace = enable_trace
        moved = self._move(slot_remap, inputs)
        if parameters:
            self._draws = [Draw.of(sampling_params, slot) for slot in range(len(page_table))]
        if parameters or moved:
            loop.load_settings(self._by_user([draw.settings for draw in self._draws], GREEDY))
        if inputs:
            self._positions = torch.as_tensor(start_pos).flatten().tolist()
            given = ((tokens, 0), (start_pos, -1), (page_table, 0))
            tokens, start_pos, users_pages = (self._of_users(torch.as_tensor(tensor), idle) for tensor, idle in given)
            logits = self.generator.decode_forward(
                tokens, start_pos, page_table=users_pages, kv_cache=kv_cache, read_from_device=False
            )
        else:
            if pages:
                counts = torch.tensor(self._by_user(self._positions, -1)) + 1
                loop.load_pages(own_pages(self._of_users(page_table, 0), counts))
            logits = loop.step()
        if inputs or pages:
            self._pages = page_table.clone()
        self._resident = sampling_params is not None
        found = logits if sampling_params is None else self._draw(logits, prompt_tokens, output_tokens)
        if read_from_device and not isinstance(found, ON_HOST):
            return self.process_decode_output_host(found, is_tokens=self._resident)
        return found

    def _commands(
        self,
        sampling_params,
        page_table,
        *,
        reload_inputs=None,
        reload_page_table=False,
        reload_sampling_params=False,
        reset_sampling_state=False,
        reset_batch=False,
        **unknown,
    ):
        """What a step loads: (tokens, positions and pages; pages alone; sampling parameters).

        A plugin that does not know the contract says `reset_batch` where slots have changed, when it asks for drawn tokens. Then the rest is found here.
        What a draw depends on is its request's seed and position, which are no state that could be reset.
        """
        if reload_inputs is None:
            steady = sampling_params is not None and self._resident and not reset_batch
            grown = steady and not torch.equal(page_table, self._pages)
            return not steady, grown, sampling_params is not None and not steady
        if not reload_inputs and not self._resident:
            raise ValueError("reload_inputs is False, but the last step has drawn no tokens on the mesh")
        return (
            reload_inputs,
            reload_page_table,
            sampling_params is not None and (reload_sampling_params or reset_sampling_state),
        )

    def _move(self, slot_remap, reloaded):
        """Let what is kept by slot follow its request: slot i takes what slot `slot_remap[i]` has. Tokens on the mesh cannot. Whether any has moved."""
        if slot_remap is None or not self._draws:
            return False
        moves = torch.as_tensor(slot_remap).tolist()
        if not reloaded and any(slot != old for slot, old in enumerate(moves) if self._positions[old] >= 0):
            raise ValueError(f"slot_remap {moves} moves requests whose tokens are on the mesh: it takes reload_inputs")
        self._draws = [self._draws[old] for old in moves]
        return moves != sorted(moves)

    def _draw(self, logits, prompt_tokens, output_tokens):
        """Draw the next tokens, which the next step is fed. On the mesh, unless one must be drawn on the host or its log-probability is wanted."""
        loop, draws = self.generator.loop, self._draws
        active = [slot for slot, position in enumerate(self._positions) if position >= 0]
        if any(draws[slot].settings != GREEDY for slot in active):
            seeds = [draw.seed_of(position + 1) for draw, position in zip(draws, self._positions)]
            loop.load_seeds(self._by_user(seeds, 1))
        drawn = loop.draw()
        here, wanted = ([s for s in active if not draws[s].on_mesh], any(draws[s].log_prob for s in active))
        if here or wanted:
            rows = self.process_decode_output_host(logits)[:, 0]
            drawn = self.process_decode_output_host(drawn, is_tokens=True)
            for slot in here:
                texts = (() if text is None else text[slot] for text in (prompt_tokens, output_tokens))
                drawn[slot] = draws[slot].choose(rows[slot], self._positions[slot] + 1, *texts)
            loop.load_tokens(torch.tensor(self._by_user(drawn.tolist(), 0), dtype=torch.int32))
        self._positions = [position + (position >= 0) for position in self._positions]
        return (drawn, log_probs(rows, drawn)) if wanted else drawn

    def read_decode_output(self, tt_out, async_read=False):
        """(the step's output on its way to the host, events to wait for). The next step does not change it."""
        if isinstance(tt_out, ON_HOST):
            return tt_out, []
        host = tt_out.cpu(blocking=not async_read)
        return host, [ttnn.record_event(self.generator.mesh_device, 0)] if async_read else []

    def process_decode_output_host(self, tt_out, is_tokens=False):
        """A step's output by slot: logits [slots, 1, VOCAB_SIZE], or tokens [slots]."""
        read = self.generator.loop.read if is_tokens else self.generator.read_decode_output
        return read(tt_out)[self._users()]

    def _user(self, slot):
        lane, row = divmod(slot, self.stride)
        return lane * cfg.USERS_PER_GROUP + row

    def _users(self):
        return torch.tensor([self._user(slot) for slot in range(self.stride * LANES)])

    def _by_user(self, values, idle):
        """A list with a value for each slot -> one for each user, of which those that are no slot's have `idle`."""
        users = {self._user(slot): value for slot, value in enumerate(values)}
        return [users.get(user, idle) for user in range(cfg.BATCH)]

    def _of_users(self, tensor, idle):
        """Rows of slots -> rows of users, of which those that are no slot's are idle."""
        rows = torch.full((cfg.BATCH, *tensor.shape[1:]), idle, dtype=tensor.dtype)
        rows[self._users()[: tensor.shape[0]]] = tensor
        return rows


def log_probs(logits, tokens):
    """Of each row's token, [rows]."""
    return logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1))[:, 0]


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
