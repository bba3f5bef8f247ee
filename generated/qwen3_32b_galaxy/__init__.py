"""qwen3-32b on galaxy, emitted by fx2ttnn."""
