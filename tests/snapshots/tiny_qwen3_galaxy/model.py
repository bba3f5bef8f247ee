"""tiny_qwen3_galaxy on galaxy: from token ids to logits, one token for every user or a chunk of one user's prompt."""

import torch
import ttnn

from . import ccl
from . import model_config as cfg
from .decoder import Qwen3DecoderLayer
from .embed_tokens import EmbedTokens
from .inputs import (
    chunk_starts,
    decode_rows,
    decode_tokens,
    last_tile,
    pages_of_chunk,
    prefill_length,
    prefill_page_table,
    prefill_positions,
    prefill_tokens,
)
from .lm_head import LmHead
from .mesh import from_mesh, on_host
from .norm import Qwen3RMSNormNorm
from .rotary_emb import Qwen3RotaryEmbedding

LAYER_CLASSES = [Qwen3DecoderLayer] * 64


class Qwen3ForCausalLM:
    """The whole model. `weights` are those of the checkpoint; `num_layers` below 64 leaves out the last ones."""

    def __init__(self, mesh_device, weights, num_layers=cfg.NUM_LAYERS):
        self.mesh_device = mesh_device
        self.pages = cfg.PAGES_PER_GROUP
        self.rotary_emb = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
        self.embed_tokens = EmbedTokens(mesh_device, weights.at("model.embed_tokens"))
        self.norm = Qwen3RMSNormNorm(mesh_device, weights.at("model.norm"))
        self.lm_head = LmHead(mesh_device, weights.at("lm_head"))
        self.layers = [
            layer_class(mesh_device, weights.at(f"model.layers.{index}"))
            for index, layer_class in enumerate(LAYER_CLASSES[:num_layers])
        ]

    def allocate_kv_cache(self, pages=cfg.PAGES_PER_GROUP):
        """Empty pages for every layer: a list of (key cache, value cache), each [pages of the chip, kv heads of the chip, page, head dim].

        `pages` are those of a group's users; behind them come spare ones, where chips write that do not attend for the user of a prefill.
        """
        self.pages = pages
        pages += cfg.PAGES_PER_USER
        return [
            tuple(
                ttnn.zeros(shape, dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT, device=self.mesh_device)
                for shape in ((pages, 1, 64, 128), (pages, 1, 64, 128))
            )
            for _ in self.layers
        ]

    def page_table(self):
        """A page table [users, pages of a user] that gives each user consecutive pages of the chips that attend for it."""
        user = torch.arange(cfg.BATCH).unsqueeze(1) % cfg.USERS_PER_GROUP
        return user * cfg.PAGES_PER_USER + torch.arange(cfg.PAGES_PER_USER)

    def prepare_decode_inputs(self, tokens, positions, page_table):
        """Put one step's inputs on the mesh: token ids and positions [users], page table [users, pages]; a position of -1 is an idle user."""
        host = self.host_decode_inputs(tokens, positions, page_table)
        return {name: ttnn.to_device(tensor, self.mesh_device) for name, tensor in host.items()}

    def host_decode_inputs(self, tokens, positions, page_table):
        """The inputs of `prepare_decode_inputs` still on the host, divided for the chips."""
        return {
            "position_ids": on_host(
                self.mesh_device, decode_tokens(positions.clamp(min=0)), (None, 3), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "input_ids": on_host(
                self.mesh_device, decode_tokens(tokens), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "current_pos": on_host(
                self.mesh_device, decode_rows(positions, -1), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "page_table": on_host(
                self.mesh_device, decode_rows(page_table, 0), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
            ),
        }

    def prepare_prefill_inputs(self, tokens, start, user, page_table, cached=0):
        """Put a chunk's inputs on the mesh: see `host_prefill_inputs`."""
        host = self.host_prefill_inputs(tokens, start, user, page_table, cached)
        return {name: ttnn.to_device(tensor, self.mesh_device) for name, tensor in host.items()}

    def host_prefill_inputs(self, tokens, start, user, page_table, cached=0):
        """A chunk's inputs still on the host: token ids [tokens] that begin at position `start` of a user's prompt, page table [users, pages].

        `start` is a multiple of the chunk's length; the cache holds the tokens before it. Pages that are full of the prompt's first
        `cached` tokens are not written, nor are those behind its last token, whatever the page table has there.
        """
        length = prefill_length(tokens.numel())
        end = start + tokens.numel()
        if length in (128, 512):
            return {
                "position_ids": on_host(
                    self.mesh_device, prefill_positions(start, length), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
                ),
                "input_ids": on_host(
                    self.mesh_device, prefill_tokens(tokens, length), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
                ),
                "chunk_page_table": on_host(
                    self.mesh_device,
                    pages_of_chunk(page_table, user, start, length, end, cached, self.pages),
                    (None, 0),
                    ttnn.int32,
                    ttnn.ROW_MAJOR_LAYOUT,
                ),
                "page_table": on_host(
                    self.mesh_device,
                    prefill_page_table(page_table, user, end, self.pages),
                    (None, 0),
                    ttnn.int32,
                    ttnn.ROW_MAJOR_LAYOUT,
                ),
                "chunk_start": on_host(
                    self.mesh_device, torch.tensor([start]), (None, None), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
                ),
                "last_tile_start": on_host(
                    self.mesh_device, last_tile(tokens), (None, None), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
                ),
                "last_tile_end": on_host(
                    self.mesh_device,
                    last_tile(tokens) + torch.tensor([1, 1, ttnn.TILE_SIZE, 1280]),
                    (None, None),
                    ttnn.int32,
                    ttnn.ROW_MAJOR_LAYOUT,
                ),
            }
        return {
            "position_ids": on_host(
                self.mesh_device, prefill_positions(start, length), (None, 3), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "input_ids": on_host(
                self.mesh_device, prefill_tokens(tokens, length), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "chunk_page_table": on_host(
                self.mesh_device,
                pages_of_chunk(page_table, user, start, length, end, cached, self.pages),
                (None, 0),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
            ),
            "page_table": on_host(
                self.mesh_device,
                prefill_page_table(page_table, user, end, self.pages),
                (None, 0),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
            ),
            "chunk_start": on_host(
                self.mesh_device, chunk_starts(start, length), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "last_tile_start": on_host(
                self.mesh_device, last_tile(tokens), (None, None), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "last_tile_end": on_host(
                self.mesh_device,
                last_tile(tokens) + torch.tensor([1, 1, ttnn.TILE_SIZE, 1280]),
                (None, None),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
            ),
        }

    def prefill_forward(self, kv_cache, **inputs):
        """A chunk of one user's prompt: device tensors of `prepare_prefill_inputs` -> logits of the tile of tokens that holds the last one."""
        short = inputs["input_ids"].shape[-1] in (128, 512)
        return (self.short_prefill_forward if short else self.long_prefill_forward)(**inputs, kv_cache=kv_cache)

    def decode_forward(self, position_ids, input_ids, current_pos, page_table, kv_cache):
        """One token for each user: device tensors of `prepare_decode_inputs` -> logits on the mesh."""
        cos, sin = self.rotary_emb.decode_forward(position_ids)  # [1, 1, 256, 128], [1, 1, 256, 128]
        hidden_states = self.embed_tokens.decode_forward(input_ids)  # [1, 1, 32, 1280]
        for layer, cache in zip(self.layers, kv_cache):
            hidden_states = layer.decode_forward(hidden_states, cos, sin, cache[0], cache[1], current_pos, page_table)
        hidden_states = self.norm.decode_forward(hidden_states)  # [1, 1, 32, 5120]
        lm_head = self.lm_head.decode_forward(hidden_states)  # [1, 1, 32, 512]
        return lm_head

    def long_prefill_forward(
        self,
        position_ids,
        input_ids,
        chunk_page_table,
        page_table,
        chunk_start,
        last_tile_start,
        last_tile_end,
        kv_cache,
    ):
        """`prefill_forward` of a long chunk."""
        cos, sin = self.rotary_emb.prefill_forward(position_ids)  # [1, 1, 512, 128], [1, 1, 512, 128]
        hidden_states = self.embed_tokens.prefill_forward(input_ids)  # [1, 1, 256, 1280]
        for layer, cache in zip(self.layers, kv_cache):
            hidden_states = layer.prefill_forward(
                hidden_states, cos, sin, cache[0], cache[1], chunk_page_table, page_table, chunk_start
            )
        hidden_states = ccl.all_gather(
            hidden_states, 2, cluster_axis=0, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )  # [1, 1, 2048, 1280]
        hidden_states = ttnn.slice(
            hidden_states,
            last_tile_start,
            last_tile_end,
            slice_dim=2,
            num_devices=64,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )  # [1, 1, 32, 1280]
        hidden_states = self.norm.prefill_forward(hidden_states)  # [1, 1, 32, 5120]
        lm_head = self.lm_head.prefill_forward(hidden_states)  # [1, 1, 32, 512]
        return lm_head

    def short_prefill_forward(
        self,
        position_ids,
        input_ids,
        chunk_page_table,
        page_table,
        chunk_start,
        last_tile_start,
        last_tile_end,
        kv_cache,
    ):
        """`prefill_forward` of a short chunk."""
        seq_len = position_ids.shape[3]
        cos, sin = self.rotary_emb.short_prefill_forward(position_ids)  # [1, 1, seq_len, 128], [1, 1, seq_len, 128]
        hidden_states = self.embed_tokens.short_prefill_forward(input_ids)  # [1, 1, seq_len, 1280]
        for layer, cache in zip(self.layers, kv_cache):
            hidden_states = layer.short_prefill_forward(
                hidden_states, cos, sin, cache[0], cache[1], chunk_page_table, page_table, chunk_start
            )
        hidden_states = ttnn.slice(
            hidden_states,
            last_tile_start,
            last_tile_end,
            slice_dim=2,
            num_devices=seq_len // 32,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )  # [1, 1, 32, 1280]
        hidden_states = self.norm.short_prefill_forward(hidden_states)  # [1, 1, 32, 5120]
        lm_head = self.lm_head.short_prefill_forward(hidden_states)  # [1, 1, 32, 512]
        return lm_head

    def read_logits(self, logits):
        """Logits of a decode step on the host, [users, VOCAB_SIZE]."""
        return self.read_rows(logits)[: cfg.BATCH]

    def read_prefill_logits(self, logits, tokens):
        """Logits of the last of a chunk's `tokens` on the host, [VOCAB_SIZE]."""
        return self.read_rows(logits)[(tokens.numel() - 1) % ttnn.TILE_SIZE]

    def read_rows(self, logits):
        """A tile of logits on the host, [32, VOCAB_SIZE]."""
        rows = from_mesh(self.mesh_device, logits, (3, 3))
        return rows.reshape(rows.shape[-2], -1)[:, : cfg.VOCAB_SIZE].float()
