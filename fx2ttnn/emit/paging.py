"""How the pages of the KV cache are divided among users and chips."""

from __future__ import annotations

from math import prod

from fx2ttnn.lower.program import Program


def paging(program: Program) -> dict[str, int]:
    """How the users' pages lie on the chips: groups of chips that attend for their own users, and the users of each, and their pages.

    A group's cache has pages for its users, and where there are several groups for one more: the spare pages.
    """
    table = program.decode.tensors["page_table"]
    groups = prod(program.plan.target.mesh_shape[axis] for axis in table.axes_of(0))
    users = min(program.plan.capture.users, table.shape[0])
    return {"groups": groups, "users": table.shape[0], "pages": users * table.shape[1]}
