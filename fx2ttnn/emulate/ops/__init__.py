"""The emulations, one file per family of operations. Every file here is loaded and fills the registry."""
