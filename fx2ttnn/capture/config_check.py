"""What a config.json must say before a model is built from it: transformers fills gaps with defaults without a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fx2ttnn.errors import UserError

ESSENTIAL = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_SIZES = (*ESSENTIAL, "num_key_value_heads", "head_dim", "intermediate_size", "max_position_embeddings")
_TILE = 32
_PUBLISHED_TWICE = {"chatglm": "glm (with -hf behind their names)"}
_OTHER_INPUTS = ("vision_config", "audio_config", "speech_config", "vision_tower_config")


def check_fields(fields: Mapping[str, Any], where: str, own_class: Any = None) -> Any:
    """The configuration class for a config.json: transformers', or the model's own. Raises UserError for a model that is none of ours or lacks sizes."""
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise UserError(f"{where} has no model_type, so what kind of model it is cannot be known; add it")
    config_class = own_class or _config_class(fields, model_type, where)
    _check_kind(fields, model_type, config_class, where)
    if own_class is None:
        _check_known_as_causal(fields, model_type, where)
    names = {field: spelling(field, fields, config_class) for field in _SIZES}
    missing = [names[field] for field in ESSENTIAL if names[field] not in fields]
    if missing:
        raise UserError(f"{where} does not give {', '.join(missing)}, which {model_type} models need")
    for name in names.values():
        value = fields.get(name)
        sizes = value if isinstance(value, list) and value else [value]  # a list: one size per layer
        if value is not None and not all(type(size) is int and size > 0 for size in sizes):
            raise UserError(f"{where}: {name} is {value!r}; it must be a positive whole number")
    return config_class


def spelling(field: str, fields: Mapping[str, Any], config_class: Any) -> str:
    """The name a size goes by in this config.json: its usual one, the model's own, or one that the model's class still reads."""
    names = getattr(config_class, "attribute_map", {})
    own = names.get(field, field)
    older = (name for name, now in names.items() if now in (field, own))
    return next((name for name in (field, own, *older) if name in fields), own)


def _config_class(fields: Mapping[str, Any], model_type: str, where: str) -> Any:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type in CONFIG_MAPPING:
        return CONFIG_MAPPING[model_type]
    code = " Its own code (auto_map) is not run." if "auto_map" in fields else ""
    raise UserError(
        f"{where}: model_type {model_type!r} is unknown to transformers {transformers.__version__}.{code}{_twin(fields, model_type)}"
        " A file with your own model class can be given with --module FILE:CLASS."
    )


def _twin(fields: Mapping[str, Any], model_type: str) -> str:
    """A sentence about the same model in transformers' own code, where there is one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    named = next((kind for kind, name in CAUSAL.items() if name in (fields.get("architectures") or [])), None)
    if named:
        return f" Its architecture is that of {named}, which transformers has: with that as model_type it can be tried."
    if model_type in _PUBLISHED_TWICE:
        return (
            f" The same models are published for transformers' own {_PUBLISHED_TWICE[model_type]}: take one of those."
        )
    return ""


def _check_kind(fields: Mapping[str, Any], model_type: str, config_class: Any, where: str) -> None:
    """Raises UserError for a model with other inputs than text, or with an encoder."""
    sub_configs = getattr(config_class, "sub_configs", {})
    other = [key for key in _OTHER_INPUTS if key in fields or key in sub_configs]
    if other:
        raise _refusal(where, model_type, f"a multimodal model ({other[0]})")
    if fields.get("is_encoder_decoder", getattr(config_class, "is_encoder_decoder", False)):
        raise _refusal(where, model_type, "an encoder-decoder model")


def _check_known_as_causal(fields: Mapping[str, Any], model_type: str, where: str) -> None:
    """Raises UserError unless transformers has a causal language model for it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    if model_type not in CAUSAL:
        kind = "no causal language model (transformers has no AutoModelForCausalLM class for it)"
        raise _refusal(where, model_type, kind)
    if model_type in MASKED and not fields.get("is_decoder", False):
        raise _refusal(where, model_type, "an encoder (is_decoder is not set)")


def _refusal(where: str, model_type: str, kind: str) -> UserError:
    return UserError(f"{where}: {model_type} is {kind}; only decoder-only language models can be compiled")


def check_config(config: Any, fields: Mapping[str, Any], where: str) -> None:
    """Raises UserError for sizes that do not fit together or that no tile grid can hold."""
    hidden = config.hidden_size
    if hidden % _TILE:
        raise UserError(f"{where}: hidden size {hidden} is no multiple of {_TILE}, the side of a tile on the chip")
    try:
        names = ("num_attention_heads", "num_key_value_heads", "head_dim")
        heads, kv_heads, head_dim = (getattr(config, name, None) for name in names)
    except Exception:  # they differ by layer
        return
    if not isinstance(heads, int):
        return
    if fields.get("head_dim") is None and head_dim is None and hidden % heads:
        raise UserError(f"{where}: hidden size {hidden} is not divisible by the {heads} attention heads")
    if isinstance(kv_heads, int) and heads % kv_heads:
        raise UserError(f"{where}: {heads} attention heads cannot be shared among {kv_heads} key/value heads evenly")
