"""A package behind vLLM with Tenstorrent's plugin: the bundle that the plugin finds, and the server's start."""

from fx2ttnn.serve.bundle import write_bundle
from fx2ttnn.serve.server import serve

__all__ = ["serve", "write_bundle"]
