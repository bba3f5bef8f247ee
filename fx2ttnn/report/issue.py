"""A draft of the issue to file with the ttnn team for an operation that no rule takes."""

from __future__ import annotations

from fx2ttnn.ir import Op
from fx2ttnn.plan import Plan


def issue_text(op: Op, why: str, plan: Plan) -> str:
    """Markdown with the operation, its shapes and placements, where it is used and what was tried."""
    shapes = "\n".join(
        f"- input `{list(plan.graph.specs[v].shape)}` {plan.graph.specs[v].dtype}, on the mesh {plan.placements.get(v, 'not placed')}"
        for v in op.inputs
    )
    outputs = "\n".join(f"- output `{list(plan.graph.specs[v].shape)}` {plan.graph.specs[v].dtype}" for v in op.outputs)
    attributes = ", ".join(f"{k}={v!r}" for k, v in op.attrs.items()) or "none"
    constants = ", ".join(repr(a) for a in op.args if not isinstance(a, str)) or "none"
    rows, columns = plan.target.mesh_shape
    return f"""## Issue draft: `{op.name}` for {plan.capture.model_name}, {plan.mode}

**Operation** `{op.name}`, attributes: {attributes}; constants: {constants}
**Used in** `{op.module or "the model itself"}` (captured as {", ".join(op.sources) or "no single node"})
**Target** {plan.target.name}, mesh {rows}x{columns}, {plan.target.arch}

{shapes}
{outputs}

**What fx2ttnn found** {why}

**Wanted** a ttnn operation, or a composition of operations, that computes this for the shapes above.
"""
