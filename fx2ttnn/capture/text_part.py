"""The language model of a multimodal model: what text goes through, without the parts that read images or sound."""

from __future__ import annotations

import copy
from typing import Any, TypeGuard

from fx2ttnn.capture.config_check import ESSENTIAL, spelling
from fx2ttnn.errors import UserError


def text_type(whole: str) -> str | None:
    """The type of the causal language model inside a multimodal type; None where transformers names none."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    nested = getattr(CONFIG_MAPPING[whole], "sub_configs", {}).get("text_config")
    model_type = getattr(nested, "model_type", None)
    return model_type if _is_causal(model_type) else None


def text_part(fields: dict[str, Any], where: str) -> dict[str, Any] | None:
    """The fields of the causal language model inside a multimodal model's config.json; None where there is none.

    A nested configuration is written without what equals its class's defaults: sizes that must be known are filled in. Whether
    the output shares the embedding's weight is said by the whole model, if by anything. Raises UserError.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    text, whole = fields.get("text_config"), fields.get("model_type")
    if not isinstance(text, dict) or not isinstance(whole, str) or whole not in CONFIG_MAPPING:
        return None
    model_type = text.get("model_type") or text_type(whole)
    if not _is_causal(model_type):
        return None
    config_class = CONFIG_MAPPING[model_type]
    missing = [name for name in ESSENTIAL if spelling(name, text, config_class) not in text]
    found: dict[str, Any] = {}
    try:
        if missing:
            defaults = config_class()
            found = {name: getattr(defaults, name) for name in missing}
        found |= text | {"model_type": model_type}
        if "tie_word_embeddings" in fields:
            found["tie_word_embeddings"] = CONFIG_MAPPING[whole].from_dict(copy.deepcopy(fields)).tie_word_embeddings
    except Exception as error:
        raise UserError(f"{where}: transformers refuses this {whole} config: {' '.join(str(error).split())}") from error
    return found


def _is_causal(model_type: Any) -> TypeGuard[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    return isinstance(model_type, str) and model_type in CAUSAL and model_type in CONFIG_MAPPING
