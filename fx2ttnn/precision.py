"""Data types by role. A role is what a value is for; rules ask for roles, never for a type."""

from __future__ import annotations

from dataclasses import dataclass

from fx2ttnn.targets import Target

BYTES = {
    "bfloat16": 2.0,
    "bfloat8_b": 1088 / 1024,
    "bfloat4_b": 576 / 1024,
    "float32": 4.0,
    "int32": 4.0,
    "uint32": 4.0,
    "uint16": 2.0,
}

EXACT = "exact"  # the most exact math fidelity that a chip computes right with


@dataclass(frozen=True)
class Precision:
    """ttnn data type of each role, and the math fidelity of matmuls."""

    name: str
    weights: str
    cache: str
    activations: str = "bfloat16"
    small: str = "bfloat16"  # norms, biases, embeddings, tables
    fidelity: str = "HiFi2"  # or EXACT

    def bytes_of(self, role: str) -> float:
        """Bytes for each element of a role's type; a block of 1024 bfloat8_b values takes 1088 bytes."""
        return BYTES[getattr(self, role)]

    def flops(self, target: Target) -> float:
        """FLOP/s of matmuls at this fidelity."""
        return getattr(target, self.rate(target))

    def rate(self, target: Target) -> str:
        """Name of the target's FLOP rate at this fidelity."""
        return f"flops_{fidelity_on(target, self.fidelity).lower()}"


def fidelity_on(target: Target, fidelity: str) -> str:
    """ttnn's name of a math fidelity: EXACT is what the target's chip says."""
    return target.exact_fidelity if fidelity == EXACT else fidelity


PRECISIONS = {
    "performance": Precision("performance", weights="bfloat8_b", cache="bfloat8_b"),
    "accuracy": Precision("accuracy", weights="bfloat16", cache="bfloat16", fidelity=EXACT),
}
