"""Layers that are equal are traced once; a further one becomes a single `layer` op.

A layer stands for a later one when (1) both have the same fingerprint, (2) the later is called with the same arguments but
for one tensor, the hidden state, (3) the first, traced with its index hidden, used it as cache slot only, and (4) the first
left its own attributes and its arguments as they were. Where any of these fails the layer is traced like the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch.utils._pytree import tree_flatten

from fx2ttnn.capture.cache import IndexUsed, LayerSlot, TracedCache
from fx2ttnn.capture.fingerprint import Attribute, Fingerprints, index_attributes
from fx2ttnn.capture.layers import layer_lists

_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Layer:
    """A place in a list of layers."""

    path: str
    index: int
    module: torch.nn.Module
    index_attributes: frozenset[Attribute]
    fingerprint: Hashable


@dataclass
class Representative:
    """A traced layer that may stand for later ones: what it was called with and what it returned."""

    path: str
    leaves: list[Any]
    structure: Any
    output: torch.Tensor
    rest: tuple[Any, ...] | None
    hidden: int | None = None  # which of the leaves is the hidden state; known once a second layer is called


@dataclass
class LayerFolder:
    """Puts itself before the forward of every layer of a model while it is traced. `folded`: path -> representative's path.

    `excluded` are fingerprints whose layers are traced one by one.
    """

    model: torch.nn.Module
    excluded: set[Hashable]
    folded: dict[str, str] = field(default_factory=dict)
    _representatives: dict[Hashable, list[Representative]] = field(default_factory=dict)
    _called: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._fingerprints = Fingerprints()
        self._layers = [layer for path, modules in layer_lists(self.model) for layer in self._layers_of(path, modules)]
        self._counts = Counter(layer.fingerprint for layer in self._layers)

    def _layers_of(self, path: str, modules: torch.nn.ModuleList) -> Iterator[Layer]:
        for index, (module, attributes) in enumerate(zip(modules, index_attributes(list(modules)), strict=True)):
            fingerprint = (path, self._fingerprints.of(module, attributes))
            yield Layer(f"{path}.{index}", index, module, frozenset(attributes), fingerprint)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it the model's layers are folded."""
        for layer in self._layers:
            if self._counts[layer.fingerprint] > 1 and layer.fingerprint not in self.excluded:
                layer.module.forward = self._wrapper(layer, layer.module.forward)
        try:
            yield
        finally:
            for layer in self._layers:
                vars(layer.module).pop("forward", None)

    def _wrapper(self, layer: Layer, forward: Callable[..., Any]) -> Callable[..., Any]:
        def folding_forward(*args: Any, **kwargs: Any) -> Any:
            leaves, structure = tree_flatten((args, kwargs))
            again = layer.path in self._called
            self._called.add(layer.path)
            if again:  # a model that runs a layer twice: the second call is no layer of its own
                return forward(*args, **kwargs)
            for representative in self._representatives.get(layer.fingerprint, []):
                if _stands_for(representative, leaves, structure):
                    return self._fold(layer, representative, leaves)
            return self._trace(layer, forward, args, kwargs)

        return folding_forward

    def _fold(self, layer: Layer, representative: Representative, leaves: list[Any]) -> Any:
        assert representative.hidden is not None
        hidden, takes = leaves[representative.hidden], representative.leaves[representative.hidden]
        op = torch.ops.fx2ttnn.layer
        out = op(hidden, takes, representative.output, layer.index, representative.path)
        self.folded[layer.path] = representative.path
        if representative.rest is None:
            return out
        return (out, *(None if item is None else _Unread(layer, self.excluded) for item in representative.rest))

    def _trace(self, layer: Layer, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Runs the layer with its index hidden and notes it as a representative if it may be one."""
        leaves, structure = tree_flatten((args, kwargs))
        caches = [leaf for leaf in leaves if isinstance(leaf, TracedCache)]
        updates, plain = sum(c.updates for c in caches), sum(c.plain_updates for c in caches)
        try:
            with _hidden_index(layer):
                out = forward(*args, **kwargs)
        except IndexUsed:
            self.excluded.add(layer.fingerprint)
            raise
        tensor, rest = _hidden_output(out)
        only_own_slot = sum(c.updates for c in caches) <= updates + 1 and sum(c.plain_updates for c in caches) == plain
        if (
            tensor is not None
            and only_own_slot
            and self._unchanged(layer)
            and _same(leaves, tree_flatten((args, kwargs))[0])
        ):
            known = self._representatives.setdefault(layer.fingerprint, [])
            known.append(Representative(layer.path, leaves, structure, tensor, rest))
        return out

    def _unchanged(self, layer: Layer) -> bool:
        """Whether the layer's attributes are as they were: what it leaves behind could steer a later layer."""
        leave_out = {*layer.index_attributes, ("", "forward")}
        return layer.fingerprint == (layer.path.rpartition(".")[0], Fingerprints().of(layer.module, leave_out))


def _same(before: list[Any], after: list[Any]) -> bool:
    return len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=False))


def _stands_for(representative: Representative, leaves: list[Any], structure: Any) -> bool:
    """Whether the arguments are the representative's but for one tensor of the same kind; notes which one that is."""
    if structure != representative.structure:
        return False
    different = []
    for place, (theirs, ours) in enumerate(zip(representative.leaves, leaves, strict=False)):
        if theirs is ours and (isinstance(theirs, torch.Tensor | TracedCache) or _comparable(theirs)):
            continue
        if isinstance(theirs, torch.Tensor) and isinstance(ours, torch.Tensor):
            if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
                return False
            different.append(place)
        elif type(theirs) is not type(ours) or not _comparable(theirs) or theirs != ours:
            return False
    if len(different) != 1 or representative.hidden not in (None, different[0]):
        return False
    representative.hidden = different[0]
    return True


def _comparable(value: Any) -> bool:
    params = getattr(type(value), "__dataclass_params__", None)
    return isinstance(value, _PLAIN) or (params is not None and params.frozen)


def _hidden_output(out: Any) -> tuple[torch.Tensor | None, tuple[Any, ...] | None]:
    """The tensor that a layer returned, or the first one of a tuple, and the rest of the tuple."""
    if isinstance(out, torch.Tensor):
        return out, None
    if isinstance(out, tuple) and isinstance(out[0], torch.Tensor) and all(map(_may_be_unread, out[1:])):
        return out[0], out[1:]
    return None, None


def _may_be_unread(item: Any) -> bool:
    return item is None or isinstance(item, torch.Tensor)


class _Unread:
    """Stands for what a folded layer returns besides the hidden state, such as its attention weights: nothing may read it."""

    def __init__(self, layer: Layer, excluded: set[Hashable]) -> None:
        self._layer, self._excluded = layer, excluded

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        self._excluded.add(self._layer.fingerprint)
        raise IndexUsed

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for item in tree_flatten((args, kwargs or {}))[0]:
            if isinstance(item, cls):
                item._fail()

    __getattr__ = __getitem__ = __iter__ = __len__ = __bool__ = __eq__ = __add__ = __radd__ = __mul__ = __rmul__ = _fail  # type: ignore[assignment]
    __sub__ = __rsub__ = __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = _fail
    __hash__ = object.__hash__


@contextmanager
def _hidden_index(layer: Layer) -> Iterator[None]:
    """While it lasts, the layer's index attributes hold a `LayerSlot`."""
    slot = LayerSlot(layer.index)
    places = [(layer.module.get_submodule(path), name) for path, name in layer.index_attributes]
    for module, name in places:
        vars(module)[name] = slot
    try:
        yield
        if slot.used:  # the model swallowed the error
            raise IndexUsed
    finally:
        for module, name in places:
            vars(module)[name] = layer.index
