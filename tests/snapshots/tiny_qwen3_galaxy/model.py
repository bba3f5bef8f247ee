"""tiny_qwen3_galaxy on galaxy: the decode step from token ids to logits."""

import torch
import ttnn

from . import model_config as cfg
from .decoder import Qwen3DecoderLayer
from .embed_tokens import EmbedTokens
from .lm_head import LmHead
from .mesh import decode_rows, decode_tokens, from_mesh, to_mesh
from .norm import Qwen3RMSNormGathered
from .rotary_emb import Qwen3RotaryEmbedding

LAYER_CLASSES = [Qwen3DecoderLayer] * 64


class Qwen3ForCausalLM:
    """The whole model. `weights` are those of the checkpoint; `num_layers` below 64 leaves out the last ones."""

    def __init__(self, mesh_device, weights, num_layers=cfg.NUM_LAYERS):
        self.mesh_device = mesh_device
        self.rotary_emb = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
        self.embed_tokens = EmbedTokens(mesh_device, weights.at("model.embed_tokens"))
        self.norm = Qwen3RMSNormGathered(mesh_device, weights.at("model.norm"))
        self.lm_head = LmHead(mesh_device, weights.at("lm_head"))
        self.layers = [
            layer_class(mesh_device, weights.at(f"model.layers.{index}"))
            for index, layer_class in enumerate(LAYER_CLASSES[:num_layers])
        ]

    def allocate_kv_cache(self):
        """Empty pages for every layer: a list of (key cache, value cache), each [pages of the chip, kv heads of the chip, page, head dim]."""
        return [
            tuple(
                ttnn.zeros(shape, dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT, device=self.mesh_device)
                for shape in [(512, 1, 64, 128), (512, 1, 64, 128)]
            )
            for _ in self.layers
        ]

    def page_table(self):
        """A page table [users, pages of a user] that gives each user consecutive pages of the chips that attend for it."""
        user = torch.arange(cfg.BATCH).unsqueeze(1) % 8
        return user * cfg.PAGES_PER_USER + torch.arange(cfg.PAGES_PER_USER)

    def prepare_decode_inputs(self, tokens, positions, page_table):
        """Put one step's inputs on the mesh: token ids and positions [users], page table [users, pages]; a position of -1 is an idle user."""
        return {
            "position_ids": to_mesh(
                self.mesh_device, decode_tokens(positions.clamp(min=0)), (None, 3), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "input_ids": to_mesh(
                self.mesh_device, decode_tokens(tokens), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "current_pos": to_mesh(
                self.mesh_device, decode_rows(positions, -1), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
            ),
            "page_table": to_mesh(
                self.mesh_device, decode_rows(page_table, 0), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
            ),
        }

    def decode_forward(self, position_ids, input_ids, current_pos, page_table, kv_cache):
        """One token for each user: device tensors of `prepare_decode_inputs` -> logits on the mesh."""
        cos, sin = self.rotary_emb.forward(position_ids)  # [1, 8, 1, 128], [1, 8, 1, 128]
        hidden_states = self.embed_tokens.forward(input_ids)  # [1, 1, 32, 1280]
        for layer, cache in zip(self.layers, kv_cache):
            hidden_states = layer.forward(hidden_states, cos, sin, cache[0], cache[1], current_pos, page_table)
        hidden_states = self.norm.forward(hidden_states)  # [1, 1, 32, 5120]
        lm_head = self.lm_head.forward(hidden_states)  # [1, 1, 32, 512]
        return lm_head

    def read_logits(self, logits):
        """Logits on the host, [users, VOCAB_SIZE]."""
        return from_mesh(self.mesh_device, logits, (3, 3)).reshape(cfg.ROWS, -1)[: cfg.BATCH, : cfg.VOCAB_SIZE].float()
