"""From a model reference to the graphs of its decode step and of a prefill chunk, without weights and without a device."""

from fx2ttnn.capture.config import ModelSource, load_config, load_source
from fx2ttnn.capture.step import build_model, capture_decode, capture_prefill

__all__ = ["ModelSource", "build_model", "capture_decode", "capture_prefill", "load_config", "load_source"]
