"""From a model reference to the graph of its decode step, without weights and without a device."""

from fx2ttnn.capture.config import config_fields, load_config
from fx2ttnn.capture.decode import build_model, capture_decode

__all__ = ["build_model", "capture_decode", "config_fields", "load_config"]
