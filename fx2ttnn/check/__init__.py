"""What the real ttnn says of every module of a package, on a mock cluster of the package's target.

`check` starts a process of its own (runner.py), so that a crash of the library is a finding and not a crash of ours.
"""

from fx2ttnn.check.check import check
from fx2ttnn.check.result import CheckResult, Dram, Finding, LayerTotals, ModuleReport, Totals

__all__ = ["CheckResult", "Dram", "Finding", "LayerTotals", "ModuleReport", "Totals", "check"]
