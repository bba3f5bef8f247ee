"""Building a Hugging Face model without memory or time for its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from fx2ttnn.capture import attention, experts
from fx2ttnn.errors import OwnAttention, UserError


def build_model(config: Any, model_class: Any = None, own_attention: bool = False) -> torch.nn.Module:
    """The causal language model of `config` in float32 and eval mode: parameters on meta, buffers with their values.

    `model_class` is a class of the user's own; without it, transformers' for the type of `config`. With `own_attention` the
    model's code computes attention (`eager`, as in the reference of an emitted package); else our function is registered for it.

    Raises UserError where transformers cannot build it, OwnAttention where it would not call our function.
    """
    from transformers.initialization import no_init_weights
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    attention.register()
    experts.register()
    config = copy.deepcopy(config)
    try:
        model_class = model_class or MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        if not own_attention and not model_class._can_set_attn_implementation():
            raise OwnAttention(f"{model_class.__name__} does not use transformers' attention interface")
        with _LargeOnMeta(), _parameters_on_meta(), no_init_weights():
            model = model_class._from_config(
                config,
                dtype=torch.float32,
                attn_implementation="eager" if own_attention else attention.NAME,
                experts_implementation=experts.NAME,
            )
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"transformers cannot build a {config.model_type} model from this config: {reason}") from error
    _set_buffers(model)
    model.tie_weights()
    return model.eval().requires_grad_(False)


class _LargeOnMeta(TorchFunctionMode):
    """While it is active, `torch.empty` or `zeros` of more than a GiB is a tensor on meta: all experts of a layer may be more than can be reserved."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.empty, torch.zeros) and "device" not in kwargs:
            shape = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
            if math.prod(shape) > 2**28:
                kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Moves every parameter to meta as it is registered: its memory is reserved at most, never touched."""

    def move(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> torch.nn.Parameter | None:
        if parameter is None or parameter.device.type == "meta":
            return None
        return torch.nn.Parameter(parameter.to("meta"), requires_grad=False)

    # torch annotates the hook as returning nothing, but takes what it returns in place of the parameter.
    handle = register_module_parameter_registration_hook(move)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def _set_buffers(model: Any) -> None:
    """Runs the model's own initialisation where there are buffers: some models leave them unset until then."""
    for module in model.modules():
        if module._buffers:
            model._init_weights(module)
