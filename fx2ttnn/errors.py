"""Errors that are messages to the user."""


class UserError(Exception):
    """Bad input: one clear message that says what was found, where, and what to do. The command line exits with code 2."""


class CaptureError(UserError):
    """The model cannot be captured: names the module and the reason."""


class OwnAttention(CaptureError):
    """The model computes attention in its own code: it is captured in another way."""


class GraphError(UserError):
    """A graph is not well formed: a fault of ours, found at the stage or pass that made it."""

    def __init__(self, message: str):
        super().__init__(f"a fault of fx2ttnn, not of the model: please report it. {message}")
