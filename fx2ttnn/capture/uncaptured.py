"""Modules of layers that cannot be traced, as those with a state besides keys and values: each stands as one op.

No row takes that op, so no package comes of it; but the report then covers all the rest, and names every such module at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map
from transformers.cache_utils import DynamicCache
from transformers.utils import logging

from fx2ttnn.capture.cache import LayerSlot, TracedCache, slot_number
from fx2ttnn.capture.layers import layer_lists
from fx2ttnn.errors import CaptureError


class ModuleError(CaptureError):
    """A module cannot be traced. `path` and `reason`: which, and why."""

    def __init__(self, path: str, kind: str, reason: str) -> None:
        super().__init__(f"{path or 'the model'} ({kind}){reason}")
        self.path, self.reason = path, reason


@dataclass
class Uncaptured:
    """Which classes of a model's modules stand as one op, and why. It grows as tracing under `mode` fails; `first` is what failed first."""

    model: torch.nn.Module
    mode: FakeTensorMode
    first: ModuleError | None = None
    _classes: dict[type, type] = field(default_factory=dict)  # by the model's own

    def add(self, error: ModuleError) -> None:
        """Lets the module that cannot be traced, or else the nearest around it, stand. Raises what failed first where none is inside a layer."""
        self.first = self.first or error
        lists = [path for path, _ in layer_lists(self.model)]
        known = {*self._classes, *self._classes.values(), torch.nn.ModuleList, torch.nn.ModuleDict}
        path = error.path
        while any(path.startswith(f"{outer}.") for outer in lists):
            kind = type(self.model.get_submodule(path))
            if kind not in known:
                why = f"{kind.__name__}{error.reason}" if path == error.path else str(error)
                self._classes[kind] = self._standing(kind, why)
                return
            path = path.rpartition(".")[0]
        raise self.first from error

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Within it a call of a module of these classes is one op."""
        modules = [(module, type(module)) for module in self.model.modules() if type(module) in self._classes]
        for module, kind in modules:
            module.__class__ = self._classes[kind]
        try:
            yield
        finally:
            for module, kind in modules:
                module.__class__ = kind

    def _standing(self, kind: type, why: str) -> type:
        """The class `kind`, but a call is one op for each tensor that it gives."""

        def forward(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
            op = torch.ops.fx2ttnn.uncaptured
            return tree_map(
                lambda x: op(tensors, list(x.shape), x.dtype, why) if isinstance(x, torch.Tensor) else x,
                self._run_alone(kind, module, args, kwargs),
            )

        return type(kind.__name__, (kind,), {"forward": forward})

    def _run_alone(self, kind: Any, module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        """What the module gives outside of the trace, with an empty cache of transformers: its shapes are what is wanted."""
        cache = DynamicCache(config=getattr(self.model, "config", None))
        args, kwargs = tree_map(lambda x: cache if isinstance(x, TracedCache) else x, (args, kwargs))
        slots = [(m, n, v) for m in module.modules() for n, v in vars(m).items() if isinstance(v, LayerSlot)]
        try:
            for m, name, slot in slots:
                setattr(m, name, slot_number(slot))
            with _disable_current_modes(), self.mode, torch.no_grad(), _quiet():
                return kind.forward(module, *args, **kwargs)
        finally:
            for m, name, slot in slots:
                setattr(m, name, slot)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from advising faster kernels: nothing is computed."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
