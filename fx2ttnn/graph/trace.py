"""Why a rewrite did not apply: said on stderr where FX2TTNN_TRACE names the rewrite, or is `all`."""

from __future__ import annotations

import os
import sys

from fx2ttnn.ir import Op

VARIABLE = "FX2TTNN_TRACE"  # names of passes or of operations, with commas between them


def refused(rewrite: str, op: Op, why: str) -> None:
    """Say that `rewrite`, a pass or the operation that it would make, does not take `op`, and why."""
    named = os.environ.get(VARIABLE, "")
    if named and (named == "all" or rewrite in named.split(",")):
        print(f"{rewrite}: not {op.outputs[0]} = {op.name}: {why}  # {op.module}", file=sys.stderr)
