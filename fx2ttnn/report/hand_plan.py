"""Plans that were written by hand: the device operations of a decode layer in order, with their published times, as JSON files.

Those in `hand_plans/` are found by their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fx2ttnn import targets
from fx2ttnn.errors import UserError
from fx2ttnn.report.roles import PARTS
from fx2ttnn.shipped import shipped

FOLDER = Path(__file__).parent / "hand_plans"

Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _known(part: str) -> str:
    if part not in PARTS:
        raise ValueError(f"{part!r} is no part of a layer: there are {', '.join(PARTS)}")
    return part


Part = Annotated[str, AfterValidator(_known)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class HandOp(_Section):
    """`count` device operations in a row, of one name, with the time of all of them in microseconds: kernels, and gaps before them.

    `time`: a "measured" one; what the vendor's tests take as "target" or as upper "bound"; "inferred" from other figures.
    """

    name: str
    count: Count = 1
    kernel_us: Time
    gap_us: Time
    time: Literal["measured", "target", "bound", "inferred"]
    source: str

    @property
    def us(self) -> float:
        """Kernels and gaps, in microseconds."""
        return self.kernel_us + self.gap_us


class LayerOp(HandOp):
    """An operation of the layer: which parts of it, in the words of report/roles.py, and on what shape on a chip.

    `shape`: [rows, columns in, columns out] of a matmul, else what the operation reads;
    `dtype`: of a matmul's weight, else of what it reads. Both may be left out.
    """

    parts: Annotated[list[Part], Field(min_length=1)]
    shape: list[Count] = []
    dtype: Literal["", "bfloat16", "bfloat8_b", "bfloat4_b", "float32"] = ""


class HandPlan(_Section):
    """A model's decode step on a target: `users` in all, each with `context` tokens behind it; `tail`: what stands around the layers."""

    source: str
    model: str
    target: str
    context: Count
    users: Count
    layers: Count
    step_us: Time  # published, of the whole step
    step_source: str
    notes: list[str] = []
    layer: Annotated[list[LayerOp], Field(min_length=1)]
    tail: list[HandOp] = []

    @property
    def layer_us(self) -> float:
        """The published times of a layer's operations, one after another."""
        return sum(op.us for op in self.layer)

    @property
    def tail_us(self) -> float:
        """Those of what stands around the layers."""
        return sum(op.us for op in self.tail)


def names() -> list[str]:
    """The plans that come with fx2ttnn."""
    return [path.stem for path in shipped(FOLDER, "*.json")]


def load(name: str) -> HandPlan:
    """The plan in that file, or else of that name. UserError with one reason where there is none, or where it is none."""
    path = FOLDER / f"{name}.json" if name in names() and not Path(name).is_file() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no plan {name!r}: neither a file nor one of {', '.join(names())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the plan {name}: {getattr(error, 'strerror', None) or error}") from error
    try:
        found = HandPlan.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{name} is no plan: {_said(error)}") from None
    targets.load(found.target)
    return found


def _said(error: ValidationError) -> str:
    """The first fault: `layer.3.kernel_us: Input should be …`, or where the text ceases to be JSON."""
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{where} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{where} is no field of a plan"
    return f"{where}: {fault['msg']}" if where else fault["msg"]
