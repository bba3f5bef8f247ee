"""The decode step, the choice of the next tokens and chunks of prompts, with all that they need on the mesh: captured once, replayed then."""

import hashlib
from contextlib import nullcontext

import torch
import ttnn

from . import model_config as cfg
from .mesh import from_mesh, on_host

MAX_TOP_K = 32  # ttnn.sampling takes no more
GREEDY = (1, 1.0, 1.0)  # k, p, 1 / temperature: the best token


def sampling_settings(temperature=0.0, top_k=None, top_p=None):
    """(k, p, 1 / temperature) of a user; without `top_k` (None, 0 or -1) the 32 best tokens are drawn from, at temperature 0 the best is taken."""
    top_k, top_p = MAX_TOP_K if top_k in (None, 0, -1) else top_k, 1.0 if top_p is None else top_p
    if not temperature >= 0:
        raise ValueError(f"temperature {temperature} is not 0 or more")
    if not 1 <= top_k <= MAX_TOP_K:
        raise ValueError(f"top_k {top_k} is outside 1 to {MAX_TOP_K}; 0, -1 or None: the {MAX_TOP_K} best")
    if not 0 <= top_p <= 1:
        raise ValueError(f"top_p {top_p} is outside 0 to 1")
    return GREEDY if temperature == 0 or top_k == 1 else (top_k, float(top_p), 1 / temperature)


def host_settings(mesh_device, settings):
    """The sampler's arguments on the host, from `sampling_settings` of up to ROWS users; the other rows take the best token."""
    rows = [*settings, *[GREEDY] * (cfg.ROWS - len(settings))]
    dtypes = {
        "k": (torch.int32, ttnn.uint32),
        "p": (torch.float32, ttnn.bfloat16),
        "inverse_temperature": (torch.float32, ttnn.bfloat16),
    }
    return {
        name: on_host(mesh_device, torch.tensor(column, dtype=host), (None, None), dtype, ttnn.ROW_MAJOR_LAYOUT)
        for (name, (host, dtype)), column in zip(dtypes.items(), zip(*rows))
    }


def draw_seed(seed, position):
    """Where the random numbers begin that draw the token at a position of a text: the same whatever row the text has, and whoever is beside it."""
    digest = hashlib.blake2b(f"{seed} {position}".encode(), digest_size=4).digest()
    return 1 + int.from_bytes(digest, "little") % ((1 << 31) - 1)


def host_chance(mesh_device, seeds):
    """Arguments of `begin_chance` on the host: the `draw_seed` of up to ROWS users, and the rows that they are for."""
    columns = {"seeds": [*seeds, *[1] * (cfg.ROWS - len(seeds))], "user_ids": list(range(cfg.ROWS))}
    return {
        name: on_host(
            mesh_device, torch.tensor(column, dtype=torch.int32), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        )
        for name, column in columns.items()
    }


def begin_chance(seeds, user_ids):
    """Begin the random numbers of every row anew: each core that draws for one gets that row's seed."""
    ttnn.manual_seed(seeds, user_ids=user_ids, sub_core_grids=cfg.SAMPLE_CORES)


class DecodeLoop:
    """Runs decode steps one after the other. A step takes nothing from the host: tokens and positions stay on the mesh.

    Each part, the step in three, the sampling and a prompt's chunk of each length, runs call by call the first time, which compiles its programs.
    With `trace` it is then captured, and from then on replayed: what it gives is overwritten when it runs again. Nothing may be compiled while there is a trace: its
    programs would lie where the replay writes. Who runs something new calls `release` first.
    """

    def __init__(self, model, sampler, trace=True):
        self.model, self.sampler, self.trace = model, sampler, trace
        self.mesh_device = model.mesh_device
        self.inputs = self.kv_cache = self.logits = None
        self.chunks = {}  # inputs of a chunk by its length
        self.settings = self._put(host_settings(self.mesh_device, []))
        self.prompt_settings = self._put(host_settings(self.mesh_device, []))
        self.chance = self._put(host_chance(self.mesh_device, []))
        self._compiled, self._traces = set(), {}

    def load(self, tokens, positions, page_table, kv_cache):
        """Begin at these tokens and positions [users] (-1: an idle user), page table [users, pages]."""
        self._take_cache(kv_cache)
        host = self.model.host_decode_inputs(tokens, positions, page_table)
        if self.inputs is None:
            self.release()
            self.inputs = self._put(host)
        else:
            self._write(host, self.inputs)

    def load_tokens(self, tokens):
        """Put these tokens [users] in place of those that were chosen."""
        users = torch.zeros(cfg.BATCH, dtype=torch.int32)
        host = self.model.host_decode_inputs(tokens, users, users.unsqueeze(1).expand(-1, cfg.PAGES_PER_USER))
        self._write({name: host[name] for name in ["input_ids"]}, self.inputs)

    def load_pages(self, page_table):
        """Put the pages [users, pages] in place of those that the users had; tokens and positions stay."""
        users = torch.zeros(cfg.BATCH, dtype=torch.int32)
        host = self.model.host_decode_inputs(users, users, page_table)
        self._write({name: host[name] for name in ["page_table"]}, self.inputs)

    def load_settings(self, settings):
        """How the next tokens are chosen: `sampling_settings` of each user, [users]."""
        self._write(host_settings(self.mesh_device, settings), self.settings)

    def load_seeds(self, seeds):
        """What the next draw of each user depends on, [users]: `draw_seed`. Users that take the best token need none."""
        self._write(host_chance(self.mesh_device, seeds), self.chance)

    def chunk(self, length, host, kv_cache):
        """Logits of a chunk of `length` tokens on the mesh, of the inputs that `host_prefill_inputs` gives: until the next one."""
        self._take_cache(kv_cache)
        self.model.prefetcher.global_cb.free()  # a replay writes where it lies
        if length in self.chunks:
            self._write(host, self.chunks[length])
        else:
            self.release()
            self.chunks[length] = self._put(host)
        return self._run(length, lambda: self.model.prefill_forward(**self.chunks[length], kv_cache=self.kv_cache))

    def step(self):
        """Logits of the tokens that are loaded, on the mesh; every user's position goes on by one."""
        # In three parts: the prefetcher is loaded between them, which no trace holds.
        first = self._before_compiling("step")
        handed = self._run("embed", self._embed, first)
        with self.model.prefetcher.loaded():
            hidden = self._run("layers", lambda: self._layers(*handed), first)
        self.logits = self._run("logits", lambda: self._logits(hidden), first)
        return self.logits

    def draw(self):
        """Choose the next tokens from the last step's logits: they become the input of the next. Returns them on the mesh; see `read`."""
        return self._run("sample", self._sample)

    def draw_prompt(self, logits, settings, seed):
        """The token after a prompt, chosen from any row of a prefill's logits: those of all rows, on the mesh."""
        self._before_compiling("prompt")
        self._write(host_settings(self.mesh_device, [settings] * cfg.ROWS), self.prompt_settings)
        self.load_seeds([seed] * cfg.ROWS)
        begin_chance(**self.chance)
        return self.sampler.sample_forward(logits, **self.prompt_settings)

    def read(self, tokens):
        """Tokens that were chosen, on the host."""
        return from_mesh(self.mesh_device, tokens, (None, None)).flatten().to(torch.int64)

    def release(self):
        """Drop the traces; the next step captures them anew."""
        for name, (trace, _) in self._traces.items():
            with self.model.prefetcher.loaded() if name == "layers" else nullcontext():
                ttnn.release_trace(self.mesh_device, trace)
        self._traces = {}

    def _take_cache(self, kv_cache):
        """Traces hold the cache that they were captured with."""
        if kv_cache is not self.kv_cache:
            self.release()
            self.kv_cache = kv_cache

    def _embed(self):
        return self.model.decode_embed(self.inputs["position_ids"], self.inputs["input_ids"])

    def _layers(self, *handed):
        return self.model.decode_layers(*handed, self.inputs["current_pos"], self.inputs["page_table"], self.kv_cache)

    def _logits(self, hidden):
        logits = self.model.decode_logits(hidden)
        logits = ttnn.to_memory_config(
            logits, ttnn.DRAM_MEMORY_CONFIG
        )  # it stays with the trace, and L1 is for prompts, too
        ttnn.plus_one(self.inputs["current_pos"], skip_negative_entries=True)  # an idle user stays at -1
        ttnn.plus_one(self.inputs["position_ids"])  # an idle user's begins at 0 and stays behind all others
        return logits

    def _sample(self):
        begin_chance(**self.chance)
        tokens = self.sampler.sample_forward(ttnn.to_memory_config(self.logits, cfg.LM_HEAD_MEMORY), **self.settings)
        ttnn.copy(tokens, self.inputs["input_ids"])
        return tokens

    def _run(self, name, part, first=None):
        """Run a part by its name, a chunk by its length: call by call the first time, then as a trace."""
        if (self._before_compiling(name) if first is None else first) or not self.trace:
            return part()
        if name not in self._traces:
            trace = ttnn.begin_trace_capture(self.mesh_device, cq_id=0)
            result = part()
            ttnn.end_trace_capture(self.mesh_device, trace, cq_id=0)
            self._traces[name] = trace, result
        trace, result = self._traces[name]
        ttnn.execute_trace(self.mesh_device, trace, cq_id=0, blocking=False)
        return result

    def _before_compiling(self, name):
        """Whether `name` runs for the first time; then the traces are dropped."""
        first = name not in self._compiled
        if first:
            self.release()
            self._compiled.add(name)
        return first

    def _put(self, host):
        return {name: ttnn.to_device(tensor, self.mesh_device) for name, tensor in host.items()}

    def _write(self, host, device):
        """Into the tensors that the traces read."""
        for name, tensor in host.items():
            ttnn.copy_host_to_device_tensor(tensor, device[name])
