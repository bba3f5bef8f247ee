"""Run a package's tests on the vendor's device kernels, in the vendor's simulator of the chip: no card is needed.

ttnn compiles its real kernels, with the vendor's kernel compiler, and the simulator executes them instruction by instruction. So numbers are
those that a card computes; time is not simulated, and no order of events but one is tried.
"""

from fx2ttnn.simulate.environment import simulator_environment
from fx2ttnn.simulate.run import simulate

__all__ = ["simulate", "simulator_environment"]
