"""Data types by role. A role is what a value is for; rules ask for roles, never for a type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fx2ttnn.errors import UserError
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
    """ttnn data type of each role, and the math fidelity of matmuls.

    `gates`: of the weights of an MLP's gate and up projections, which most models bear in fewer bits; by default as `weights`.
    """

    name: str
    weights: str
    cache: str
    gates: str = ""
    activations: str = "bfloat16"
    small: str = "bfloat16"  # norms, biases, embeddings, tables
    sums: str = "bfloat16"  # what chips send each other of a matmul whose contracted dim is split, in a decode step
    fidelity: str = "HiFi2"  # or EXACT

    def bytes_of(self, role: str) -> float:
        """Bytes for each element of a role's type; a block of 1024 bfloat8_b values takes 1088 bytes."""
        return BYTES[getattr(self, role) or self.weights]

    def of_gates(self) -> Precision:
        """What the rows of gate and up projections are told: their weights' type, and one pass where this has no bits for a second."""
        fidelity = "LoFi" if self.gates == "bfloat4_b" else self.fidelity
        return replace(self, weights=self.gates or self.weights, fidelity=fidelity)

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
    "performance": Precision("performance", weights="bfloat8_b", cache="bfloat8_b", sums="bfloat8_b"),
    "accuracy": Precision("accuracy", weights="bfloat16", cache="bfloat16", fidelity=EXACT),
}

FIDELITIES = ("LoFi", "HiFi2", "HiFi3", "HiFi4")
WEIGHTS = ("bfloat16", "bfloat8_b", "bfloat4_b")


def chosen(name: str, fidelity: str | None = None, gates: str | None = None) -> Precision:
    """The precision `name` with another math fidelity of matmuls, or another type of gate and up projections. UserError for what there is not.

    A fidelity may be written in small letters.
    """
    fidelity = next((known for known in FIDELITIES if fidelity and known.lower() == fidelity.lower()), fidelity)
    choices: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
        "precision": (name, tuple(PRECISIONS)),
        "fidelity": (fidelity, FIDELITIES),
        "type of gates": (gates, WEIGHTS),
    }
    for what, (wanted, known) in choices.items():
        if wanted is not None and wanted not in known:
            raise UserError(f"unknown {what} {wanted!r}: known are {', '.join(known)}")
    found = PRECISIONS[name]
    changes = ([f"{fidelity} matmuls"] if fidelity else []) + ([f"{gates} gates"] if gates else [])
    return replace(
        found, name=", ".join([name, *changes]), fidelity=fidelity or found.fidelity, gates=gates or found.gates
    )
