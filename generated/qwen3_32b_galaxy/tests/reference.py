"""Hugging Face's own model as the reference: random weights, a cache with history, decode steps and prompts with hooks."""

import inspect
import json
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
import ttnn
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from .. import model_config as cfg
from ..inputs import prefill_length
from ..mesh import from_mesh, to_mesh
from ..weights import Weights, column_order
from .float32 import Float32

NUM_STEPS = 3
HISTORY = min(96, cfg.MAX_SEQ_LEN - NUM_STEPS)  # tokens that the cache holds before the first step
BIG = 1 << 30  # bytes of a weight from which on it lies in a file
CHIP_PAGES = 576  # pages of a chip's cache
NUM_LAYERS = 2  # enough to have every kind of layer, and two of one kind
CACHE_ORDERS = {
    0: ((128, 128, "halves, side by side", 128), None),
    1: ((128, 128, "halves, side by side", 128), None),
    2: ((128, 128, "halves, side by side", 128), None),
    3: ((128, 128, "halves, side by side", 128), None),
    4: ((128, 128, "halves, side by side", 128), None),
    5: ((128, 128, "halves, side by side", 128), None),
    6: ((128, 128, "halves, side by side", 128), None),
    7: ((128, 128, "halves, side by side", 128), None),
    8: ((128, 128, "halves, side by side", 128), None),
    9: ((128, 128, "halves, side by side", 128), None),
    10: ((128, 128, "halves, side by side", 128), None),
    11: ((128, 128, "halves, side by side", 128), None),
    12: ((128, 128, "halves, side by side", 128), None),
    13: ((128, 128, "halves, side by side", 128), None),
    14: ((128, 128, "halves, side by side", 128), None),
    15: ((128, 128, "halves, side by side", 128), None),
    16: ((128, 128, "halves, side by side", 128), None),
    17: ((128, 128, "halves, side by side", 128), None),
    18: ((128, 128, "halves, side by side", 128), None),
    19: ((128, 128, "halves, side by side", 128), None),
    20: ((128, 128, "halves, side by side", 128), None),
    21: ((128, 128, "halves, side by side", 128), None),
    22: ((128, 128, "halves, side by side", 128), None),
    23: ((128, 128, "halves, side by side", 128), None),
    24: ((128, 128, "halves, side by side", 128), None),
    25: ((128, 128, "halves, side by side", 128), None),
    26: ((128, 128, "halves, side by side", 128), None),
    27: ((128, 128, "halves, side by side", 128), None),
    28: ((128, 128, "halves, side by side", 128), None),
    29: ((128, 128, "halves, side by side", 128), None),
    30: ((128, 128, "halves, side by side", 128), None),
    31: ((128, 128, "halves, side by side", 128), None),
    32: ((128, 128, "halves, side by side", 128), None),
    33: ((128, 128, "halves, side by side", 128), None),
    34: ((128, 128, "halves, side by side", 128), None),
    35: ((128, 128, "halves, side by side", 128), None),
    36: ((128, 128, "halves, side by side", 128), None),
    37: ((128, 128, "halves, side by side", 128), None),
    38: ((128, 128, "halves, side by side", 128), None),
    39: ((128, 128, "halves, side by side", 128), None),
    40: ((128, 128, "halves, side by side", 128), None),
    41: ((128, 128, "halves, side by side", 128), None),
    42: ((128, 128, "halves, side by side", 128), None),
    43: ((128, 128, "halves, side by side", 128), None),
    44: ((128, 128, "halves, side by side", 128), None),
    45: ((128, 128, "halves, side by side", 128), None),
    46: ((128, 128, "halves, side by side", 128), None),
    47: ((128, 128, "halves, side by side", 128), None),
    48: ((128, 128, "halves, side by side", 128), None),
    49: ((128, 128, "halves, side by side", 128), None),
    50: ((128, 128, "halves, side by side", 128), None),
    51: ((128, 128, "halves, side by side", 128), None),
    52: ((128, 128, "halves, side by side", 128), None),
    53: ((128, 128, "halves, side by side", 128), None),
    54: ((128, 128, "halves, side by side", 128), None),
    55: ((128, 128, "halves, side by side", 128), None),
    56: ((128, 128, "halves, side by side", 128), None),
    57: ((128, 128, "halves, side by side", 128), None),
    58: ((128, 128, "halves, side by side", 128), None),
    59: ((128, 128, "halves, side by side", 128), None),
    60: ((128, 128, "halves, side by side", 128), None),
    61: ((128, 128, "halves, side by side", 128), None),
    62: ((128, 128, "halves, side by side", 128), None),
    63: ((128, 128, "halves, side by side", 128), None),
}  # of keys and values of layers, cached with their columns in another order than Hugging Face's
# Sizes of what makes queries and keys, for scores of a few units: attention is nearly flat with a model's initial weights, and shows no mistakes.

MATRICES = {
    "model.layers.0.self_attn.q_proj.weight": 4.193e-05,
    "model.layers.0.self_attn.k_proj.weight": 4.193e-05,
    "model.layers.1.self_attn.q_proj.weight": 4.193e-05,
    "model.layers.1.self_attn.k_proj.weight": 4.193e-05,
}  # standard deviations

VECTORS = {
    "model.layers.0.self_attn.q_norm.weight": (1.414, 0.0),
    "model.layers.0.self_attn.k_norm.weight": (1.414, 0.0),
    "model.layers.1.self_attn.q_norm.weight": (1.414, 0.0),
    "model.layers.1.self_attn.k_norm.weight": (1.414, 0.0),
}  # factors and summands

KEYS = {
    0: 1.414,
    1: 1.414,
}  # of a layer's cached keys


def as_cached(held, layer):
    """Hugging Face's keys and values [.., head dim] of a layer with their columns in the order in which the cache holds them."""
    orders = CACHE_ORDERS.get(layer, (None, None))
    return [h if order is None else F.pad(h, (0, 1))[..., column_order(*order)] for h, order in zip(held, orders)]


@dataclass
class Step:
    """One decode step: tokens and positions [users], logits [users, vocabulary], and what went in and out of every module."""

    tokens: torch.Tensor
    positions: torch.Tensor
    logits: torch.Tensor = None
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)

    def with_users(self, given):
        """What a module got; a hidden state in rows [users, size] as [users, 1, size]."""
        return given.unsqueeze(1) if given.dim() == 2 and given.is_floating_point() else given


@dataclass
class Prompt:
    """One prompt: token ids [count], run as a chunk of `length`; logits of its last token, keys and values of every layer."""

    tokens: torch.Tensor
    logits: torch.Tensor = None
    cache: list = field(default_factory=list)
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)

    def with_users(self, given):
        """What a module got; a hidden state in rows [tokens, size] as [1, tokens, size]."""
        return given.unsqueeze(0) if given.dim() == 2 and given.is_floating_point() else given

    @property
    def count(self):
        return self.tokens.numel()

    @property
    def length(self):
        return prefill_length(self.count)

    @property
    def rows(self):
        """Rows of the last tile that hold tokens."""
        return (self.count - 1) % 32 + 1

    def last_tile(self, tensor):
        """[1, count, size] -> [1, 1, 32, size]: the tile of rows with the last token."""
        tile = tensor[:, (self.count - 1) // 32 * 32 :]
        return F.pad(tile, (0, 0, 0, 32 - tile.shape[1])).unsqueeze(0)


def in_file(tensor):
    """The same numbers in a file that is gone with them: the system reads what is used, and may drop it from memory again."""
    with tempfile.NamedTemporaryFile() as file:
        mapped = torch.from_file(file.name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
    return mapped.view(tensor.shape).copy_(tensor)


def cache_argument(model, cache):
    """A cache as the argument that `model` has for it: transformers has begun to call `past_key_values` `cache`, class by class."""
    names = inspect.signature(model.forward).parameters
    return {"cache" if "cache" in names and "past_key_values" not in names else "past_key_values": cache}


class Reference:
    """The model and its steps. Weights are bfloat16 numbers; the arithmetic is float32."""

    def __init__(self, quick=False):
        torch.manual_seed(0)
        self.quick = quick
        self.num_layers = NUM_LAYERS
        self.config = self._config()
        self.model = self._model()
        for parameter in self.model.parameters():
            if parameter.dim() == 1:  # norms and biases start as constants; give each element its own value
                parameter.data += 0.1 * torch.randn_like(parameter)
        for name, size in MATRICES.items():
            weight = self.model.get_parameter(name).data
            weight *= size / weight.std()
        for name, (factor, summand) in VECTORS.items():
            weight = self.model.get_parameter(name).data
            weight.mul_(factor).add_(summand).mul_(1 + 0.25 * torch.randn_like(weight))  # queries' other than keys'
        for parameter in self.model.parameters():
            if parameter.nbytes >= BIG:
                parameter.data = in_file(parameter.data)
        self.past = self._past()
        for layer, size in KEYS.items():
            self.past[layer][0] = (size * self.past[layer][0]).bfloat16().float()
        self.page_table = torch.arange(cfg.BATCH).unsqueeze(
            1
        ) % cfg.USERS_PER_GROUP * cfg.PAGES_PER_USER + torch.arange(cfg.PAGES_PER_USER)
        self.user = cfg.BATCH - 1  # whose prompts are run

    def weights(self, mesh_device):
        """The model's weights for the emitted modules."""
        return Weights(mesh_device, self.model.state_dict())

    def with_small_rows(self, given, epsilon):
        """[.., size] with every other row so small that the epsilon of a norm counts as much as its numbers."""
        rows = given.clone().flatten(0, -2)
        squares = rows[::2].square().mean(-1, keepdim=True).clamp(min=1e-30)  # a row may be all zeros
        rows[::2] *= (epsilon / squares).sqrt()
        return rows.view(given.shape)

    def output(self, path, given):
        """What Hugging Face's module makes of another input than in its steps and prompts."""
        with torch.no_grad(), Float32():
            return self.model.get_submodule(path)(given)

    @cached_property
    def steps(self):
        """Decode steps, one after the other."""
        return self._run()

    @cached_property
    def prompts(self):
        """A prompt that needs padding, and, unless it is to be quick, one for each length of a chunk."""
        lengths = [min(length, cfg.MAX_SEQ_LEN) for length in cfg.PREFILL_LENGTHS]
        counts = dict.fromkeys([max(2, lengths[0] - 28), *([] if self.quick else lengths)])
        return [self._prompt(count) for count in counts]

    def prompts_of(self, lengths):
        """Those of the prompts that are run as chunks of these lengths."""
        return [prompt for prompt in self.prompts if prompt.length in lengths]

    @cached_property
    def chunked_prompt(self):
        """A prompt longer than the shortest chunk, where the cache has room for it."""
        return self._prompt(min(2 * min(cfg.PREFILL_LENGTHS) - 28, cfg.MAX_SEQ_LEN))

    def kv_cache(self, mesh_device, layer):
        """Key and value cache of a layer with the history in it, in pages."""
        caches = []
        for past in as_cached(self.past[layer], layer):
            users, heads, length, dim = past.shape
            room = torch.zeros(
                cfg.USER_GROUPS, CHIP_PAGES // cfg.PAGES_PER_USER, heads, cfg.PAGES_PER_USER * cfg.PAGE_SIZE, dim
            )
            for user in range(users):
                room[user // cfg.USERS_PER_GROUP, user % cfg.USERS_PER_GROUP, :, :length] = past[user]
            pages = room.flatten(0, 1).unflatten(2, (cfg.PAGES_PER_USER, cfg.PAGE_SIZE)).transpose(1, 2).flatten(0, 1)
            caches.append(to_mesh(mesh_device, pages, (1, 0), ttnn.bfloat8_b))
        return caches

    def read_cache(self, mesh_device, cache, count):
        """The first `count` keys and values that the caches of a layer hold for `user`, [1, kv heads, count, dim] each."""
        pages = self.user // cfg.USERS_PER_GROUP * CHIP_PAGES + self.page_table[self.user]
        whole = [from_mesh(mesh_device, tensor, (1, 0)).float()[pages] for tensor in cache]
        return [w.transpose(0, 1).flatten(1, 2)[None, :, :count] for w in whole]

    def text(self, count):
        """Token ids of a text."""
        return torch.randint(0, cfg.VOCAB_SIZE, (count,)).tolist()

    def clear(self, text):
        """Of each token of a text whether the model's choices for it are clear: it makes none."""
        return [True] * len(text)

    def _prompt(self, count):
        prompt = Prompt(torch.randint(0, cfg.VOCAB_SIZE, (count,)))
        cache = DynamicCache()
        hooks = self._hooks(prompt)
        with torch.no_grad(), Float32():
            prompt.logits = (
                self.model(input_ids=prompt.tokens[None], **cache_argument(self.model, cache)).logits[0, -1].float()
            )
        for hook in hooks:
            hook.remove()
        prompt.cache = [as_cached((held.keys.float(), held.values.float()), n) for n, held in enumerate(cache.layers)]
        return prompt

    def _hooks(self, record):
        return [
            module.register_forward_hook(self._recorder(record, path), with_kwargs=True)
            for path, module in self.model.named_modules()
        ]

    def _config(self):
        values = json.loads((Path(__file__).parents[1] / "config.json").read_text())
        values["num_hidden_layers"] = NUM_LAYERS
        for name, value in list(values.items()):
            if isinstance(value, list) and len(value) == cfg.NUM_LAYERS and name == "layer_types":
                values[name] = value[:NUM_LAYERS]
        return AutoConfig.for_model(**values)

    def _model(self):
        """The model as transformers initialises it; torch's own initialisation before that would take as long again."""
        layers = (torch.nn.Linear, torch.nn.Embedding)
        own = [layer.reset_parameters for layer in layers]
        try:
            for layer in layers:
                layer.reset_parameters = lambda module: None
            return AutoModelForCausalLM.from_config(
                self.config, dtype=torch.bfloat16, attn_implementation="eager"
            ).eval()
        finally:
            for layer, reset in zip(layers, own):
                layer.reset_parameters = reset

    def _past(self):
        heads = getattr(self.config, "num_key_value_heads", None) or self.config.num_attention_heads
        dim = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        shape = (cfg.BATCH, heads, HISTORY, dim)
        return [[torch.randn(shape).bfloat16().float() for _ in "kv"] for _ in range(NUM_LAYERS)]

    def _run(self):
        cache = DynamicCache()
        for layer, (key, value) in enumerate(self.past):
            cache.update(key, value, layer)
        start = (
            HISTORY - 1 - torch.arange(cfg.BATCH) * (HISTORY - 1) // max(cfg.BATCH - 1, 1)
        )  # users from the end of their history to its start
        steps = []
        for number in range(1 if self.quick else NUM_STEPS):
            step = Step(torch.randint(0, cfg.VOCAB_SIZE, (cfg.BATCH,)), start + number)
            hooks = self._hooks(step)
            with torch.no_grad(), Float32():
                step.logits = (
                    self.model(
                        input_ids=step.tokens.unsqueeze(1),
                        position_ids=step.positions.unsqueeze(1),
                        attention_mask=self._mask(start, number),
                        **cache_argument(self.model, cache),
                    )
                    .logits[:, 0]
                    .float()
                )
            for hook in hooks:
                hook.remove()
            steps.append(step)
        return steps

    def _mask(self, start, number):
        """[users, 1, 1, keys]: the history before the user's start, and the tokens of the steps so far, within the window."""
        position = torch.cat(
            [torch.arange(HISTORY).expand(cfg.BATCH, -1), start.unsqueeze(1) + torch.arange(number + 1)], 1
        )
        seen = torch.cat(
            [torch.arange(HISTORY) < start.unsqueeze(1), torch.ones(cfg.BATCH, number + 1, dtype=torch.bool)], 1
        )
        window = getattr(self.config, "sliding_window", None) or cfg.MAX_SEQ_LEN
        near = (start + number).unsqueeze(1) - position < window
        masks = {
            "full_attention": self._additive(seen),
            "sliding_attention": self._additive(seen & near),
        }
        kinds = set(getattr(self.config, "layer_types", None) or [])
        if len(kinds) > 1:
            return {kind: masks[kind] for kind in kinds}
        sliding = kinds == {"sliding_attention"} or (not kinds and getattr(self.config, "sliding_window", None))
        return masks["sliding_attention" if sliding else "full_attention"]

    @staticmethod
    def _additive(allowed):
        return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[:, None, None]

    @staticmethod
    def _recorder(step, path):
        def record(module, args, kwargs, output):
            inputs = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
            step.before[path] = step.with_users(inputs[0]) if inputs else None
            outputs = output if isinstance(output, (tuple, list)) else [output]
            step.after[path] = [
                o.clone() for o in outputs if isinstance(o, torch.Tensor)
            ]  # a model may write into it later

        return record
