"""Tools that work on any graph: a verifier, passes, an interpreter."""
