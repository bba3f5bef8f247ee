"""From a model reference to the graphs of its decode step and of a prefill chunk, without weights and without a device."""

from fx2ttnn.capture.config import config_fields, config_of, load_config
from fx2ttnn.capture.step import build_model, capture_decode, capture_prefill

__all__ = ["build_model", "capture_decode", "capture_prefill", "config_fields", "config_of", "load_config"]
