"""Quantised checkpoints: what one says of itself, and who undoes it on the host, in transformers' form (a quantizer)."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import AutoHfQuantizer, AutoQuantizationConfig
from transformers.quantizers.base import HfQuantizer

OWN = ("fp8", "mxfp4", "compressed-tensors")  # transformers dequantises these itself
PER_WORD = 32  # bits of the words into which GPTQ and AWQ pack their integers
BLOCK = 512  # outputs that are unpacked at a time, which bounds the memory beside a weight
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where each integer of a word stands


class Unreadable(ValueError):
    """A checkpoint is quantised in a way that cannot be undone here."""


def quantization_of(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint's folder says of its quantisation, in config.json or beside it; None: nothing."""
    for name in ("config.json", "hf_quant_config.json"):
        if (folder / name).is_file() and (settings := settings_of(json.loads((folder / name).read_text()))):
            return settings
    return None


def settings_of(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of quantisation among the fields of a config.json, or of modelopt's hf_quant_config.json."""
    text = fields.get("text_config") or {}
    settings = fields.get("quantization_config") or text.get("quantization_config") or fields.get("quantization")
    return {"quant_method": "modelopt", **settings} if isinstance(settings, dict) else None


def quantizer_of(settings: dict[str, Any]) -> HfQuantizer:
    """Transformers' quantizer that dequantises while it loads. Raises Unreadable."""
    method = settings["quant_method"]
    if method in OWN:
        if method == "compressed-tensors":
            _check_compressed_tensors(settings)
        config = AutoQuantizationConfig.from_dict({**settings, "dequantize": True})
        quantizer = AutoHfQuantizer.from_config(config, pre_quantized=True)
        if method == "compressed-tensors":
            quantizer.validate_environment()  # without which it is half made
        return quantizer
    if method == "gptq" and settings.get("bits") in (2, 4, 8):
        return Packed(settings, GptqDequantize)
    if method == "awq" and settings.get("bits") == 4 and settings.get("version", "gemm").lower() == "gemm":
        return Packed(settings, AwqDequantize)
    words = ", ".join(
        f"{name} {settings[name]}" for name in ("quant_algo", "bits", "version", "format") if settings.get(name)
    )
    raise Unreadable(
        f"the checkpoint is quantised by {method}{f' ({words})' if words else ''}, which cannot be undone here: use the model's unquantised"
        f" checkpoint, or one in {', '.join(OWN)}, GPTQ or AWQ (gemm)"
    )


def _check_compressed_tensors(settings):
    if not settings.get("config_groups"):
        raise Unreadable(
            "the checkpoint is quantised by compressed-tensors, but its quantization_config has no config_groups that say how"
        )
    try:
        import compressed_tensors  # noqa: F401
    except ImportError as error:
        raise Unreadable("the checkpoint is quantised by compressed-tensors: pip install compressed-tensors") from error


class Packed(HfQuantizer):
    """Linear layers as words of small integers, with scales and zero points for groups of inputs."""

    requires_calibration = False
    is_trainable = False
    serialized_names = {"weight": ["weight", "qweight", "qzeros", "scales", "g_idx"]}  # noqa: RUF012
    quantization_config: Any

    def __init__(self, settings, operation):
        self.quantization_config, self.pre_quantized = SimpleNamespace(dequantize=True), True
        self.settings, self._operation = settings, operation

    def get_load_operations(self):
        return {"dequantize": self._operation}

    def is_serializable(self):
        return False


class Dequantize(ConversionOps):
    """From the tensors of linear layers, [inputs, outputs] in words, to weights [outputs, inputs] in the type of the scales."""

    outputs_packed = False  # a word holds integers of several outputs, not inputs

    def __init__(self, quantizer):
        self.settings = quantizer.settings

    def convert(self, input_dict, source_patterns=None, target_patterns=None, full_layer_name="", **_):
        stems = {name[: -len("weight")].removesuffix("q") for name in input_dict if name.endswith("weight")}
        found = {}
        for stem in stems:
            if f"{stem}qweight" in input_dict:
                names = ("qweight", "qzeros", "scales", "g_idx")
                given = [input_dict.get(stem + name) for name in names]
                parts = [part if part is not None else [None] * len(given[0]) for part in given]
                found[f"{stem}weight"] = [self.whole(*one) for one in zip(*parts, strict=True)]
            else:
                found[f"{stem}weight"] = input_dict[f"{stem}weight"]
        return {full_layer_name: found["weight"]} if set(found) == {"weight"} else found

    def whole(self, qweight, qzeros, scales, g_idx):
        """[outputs, inputs], a block of outputs after the other."""
        blocks = []
        for start in range(0, scales.shape[1], BLOCK):
            part, packed = (
                slice(start // per, (start + BLOCK) // per) for per in (1, PER_WORD // self.settings["bits"])
            )
            words = qweight[:, packed if self.outputs_packed else part]
            blocks.append(self.weight(words, qzeros[:, packed], scales[:, part], g_idx).T)
        return torch.cat(blocks)

    def weight(self, qweight, qzeros, scales, g_idx):
        """[inputs, outputs]."""
        raise NotImplementedError


class GptqDequantize(Dequantize):
    """GPTQ: integers packed along the inputs, whose groups `g_idx` names. In its first format zero points are stored less one."""

    def weight(self, qweight, qzeros, scales, g_idx):
        bits = self.settings["bits"]
        integers = unpacked(qweight.T, bits).T
        zeros = unpacked(qzeros, bits) + int(self.settings.get("checkpoint_format", "gptq") == "gptq")
        if g_idx is None:
            g_idx = torch.arange(len(integers)) // (len(integers) // len(scales))
        return scales[g_idx.long()] * (integers - zeros[g_idx.long()])


class AwqDequantize(Dequantize):
    """AWQ in its form for matrices (gemm): integers packed along the outputs, in an order of their own."""

    outputs_packed = True

    def weight(self, qweight, qzeros, scales, g_idx):
        integers, zeros = (
            unpacked(words, 4).unflatten(-1, (-1, 8))[..., AWQ_ORDER].flatten(-2) for words in (qweight, qzeros)
        )
        group = len(integers) // len(scales)
        return (integers - zeros.repeat_interleave(group, 0)) * scales.repeat_interleave(group, 0)


def unpacked(words: torch.Tensor, bits: int) -> torch.Tensor:
    """[..., words] -> [..., integers]: the lowest bits of each 32-bit word first."""
    shifts = torch.arange(0, PER_WORD, bits, dtype=torch.int32)
    return ((words.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2)
