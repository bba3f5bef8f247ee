"""A causal class for the language model of a multimodal model that transformers has only with its other parts: the text model and a head."""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

from fx2ttnn.errors import UserError
from fx2ttnn.ir import OwnModule

CLASS = "LanguageModel"
_SOURCE = '''"""The language model of {whole} with a head of its own: transformers has it only together with the parts that read other than text.

For text alone its class for all parts computes the same: the positions of all axes are then equal.
"""

from torch import nn
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from {module} import {base}, {text}


class LanguageModel({base}, GenerationMixin):
    config_class = {text}.config_class
    base_model_prefix = "model"
    _tied_weights_keys = {{"lm_head.weight": "model.embed_tokens.weight"}}

    def __init__(self, config):
        super().__init__(config)
        self.model = {text}(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, position_ids=None, cache=None, **kwargs):
        found = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, cache=cache, **kwargs
        )
        return CausalLMOutputWithPast(logits=self.lm_head(found.last_hidden_state), cache=found.cache)
'''


def text_class(config_class: Any, whole: str, where: str) -> tuple[Any, OwnModule]:
    """The class for the configuration class of the `whole` type's text part, and the file that defines it. Raises UserError where it has none."""
    text = text_model(config_class)
    if text is None:
        raise UserError(
            f"{where}: {whole} is a multimodal model, and transformers has no causal language model for the part of it that reads text"
            f" ({config_class.model_type}), nor a text model alone: only models with one can be compiled"
        )
    name = text.__module__
    source = _SOURCE.format(whole=name.split(".")[2], module=name, text=text.__name__, base=text.__mro__[1].__name__)
    own = ModuleType(f"fx2ttnn_text_class_{text.__name__}")
    sys.modules[own.__name__] = own  # classes look their module up
    exec(compile(source, own.__name__, "exec"), vars(own))
    return getattr(own, CLASS), OwnModule(CLASS, source)


def text_model(config_class: Any) -> Any:
    """The class of token ids to hidden states that transformers has for this configuration class; None where there is none."""
    try:
        module = importlib.import_module(config_class.__module__.replace(".configuration_", ".modeling_"))
    except ImportError:
        return None
    return next((found for found in vars(module).values() if _is_text_model(found, config_class)), None)


def _is_text_model(found: Any, config_class: Any) -> bool:
    from transformers import PreTrainedModel

    if not inspect.isclass(found) or not issubclass(found, PreTrainedModel) or "For" in found.__name__:
        return False
    return found.config_class is config_class and "self.embed_tokens =" in inspect.getsource(found)
