"""The language model of a multimodal model: what text goes through, without the parts that read images or sound."""

from __future__ import annotations

import copy
from typing import Any, TypeGuard

from fx2ttnn.capture.config_check import ESSENTIAL, spelling
from fx2ttnn.capture.text_class import text_model
from fx2ttnn.errors import UserError


def text_type(whole: str) -> str | None:
    """The type of the causal language model inside a multimodal type; None where transformers names none."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    nested = getattr(CONFIG_MAPPING[whole], "sub_configs", {}).get("text_config")
    model_type = getattr(nested, "model_type", None)
    return model_type if is_causal(model_type) else None


def text_part(fields: dict[str, Any], where: str) -> tuple[dict[str, Any], Any] | None:
    """The fields and the configuration class of the language model inside a multimodal model's config.json; None where there is none.

    Its type, and whether the output shares the embedding's weight, is what the whole configuration makes of it. A nested one is
    written without what equals its class's defaults: sizes that must be known are filled in. Raises UserError.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    whole = fields.get("model_type")
    if not isinstance(whole, str) or whole not in CONFIG_MAPPING:
        return None
    if "text_config" not in getattr(CONFIG_MAPPING[whole], "sub_configs", {}):
        return None
    try:
        config = CONFIG_MAPPING[whole].from_dict(copy.deepcopy(fields))
        nested = isinstance(fields.get("text_config"), dict)
        text = fields["text_config"] if nested else _flat(fields)
        model_type = config.text_config.model_type
        config_class = type(config.text_config)
        if is_causal(whole) and not is_causal(model_type) and text_model(config_class) is None:
            return None
        missing = [name for name in ESSENTIAL if nested and spelling(name, text, config_class) not in text]
        defaults = config_class() if missing else None
    except Exception as error:
        raise UserError(f"{where}: transformers refuses this {whole} config: {' '.join(str(error).split())}") from error
    found = {name: getattr(defaults, name) for name in missing} | text | {"model_type": model_type}
    if "tie_word_embeddings" in fields:
        found["tie_word_embeddings"] = config.tie_word_embeddings
    return found, config_class


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Older files have the language model's fields beside the other parts."""
    return {name: value for name, value in fields.items() if not name.endswith("_config")}


def is_causal(model_type: Any) -> TypeGuard[str]:
    """Whether transformers has a causal language model of this type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    return isinstance(model_type, str) and model_type in CAUSAL and model_type in CONFIG_MAPPING
