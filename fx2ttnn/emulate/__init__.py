"""Run an unchanged ttnn package on the CPU with numbers.

While `emulated_mesh` is on, every ttnn operation calls the real one on a mock mesh (true specs, true errors) and
computes the torch value of every chip's shard next to it.
"""

from fx2ttnn.emulate.mesh import emulate, emulated_mesh, emulation
from fx2ttnn.emulate.tensor import EmulatedTensor, EmulationError

__all__ = ["EmulatedTensor", "EmulationError", "emulate", "emulated_mesh", "emulation"]
