"""Tracing one step of a model, of one token or of several, to an FX graph of ATen ops."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from fx2ttnn.capture.cache import IndexUsed, SizedCache, TracedCache
from fx2ttnn.capture.fold import LayerFolder
from fx2ttnn.capture.last_position import Branches, LastPosition
from fx2ttnn.capture.length import Unknown
from fx2ttnn.capture.uncaptured import ModuleError, Uncaptured
from fx2ttnn.errors import CaptureError, OwnAttention, UserError

MODULE = "module"  # key of a node's meta: path of the innermost module that ran it


@dataclass(frozen=True)
class Trace:
    """A traced step. `tensors` names the model's tensors by identity; `folded`: layer -> the layer that stands for it."""

    graph: fx.GraphModule
    tensors: dict[int, str]
    folded: dict[str, str]


def trace_step(model: torch.nn.Module, shape: tuple[int, int], max_seq_len: int, past: int | None = None) -> Trace:
    """Traces logits = model(input_ids [B, S], position_ids [B, S], cache). Raises CaptureError with the module's path.

    The cache has `max_seq_len` positions and does not say how many tokens it holds; given `past`, it holds so many and no more.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    uncaptured = Uncaptured(model, mode)
    with _fake_weights(model, mode), mode, torch.no_grad():
        tensors = {id(tensor): name for name, tensor in _named_tensors(model)}
        ids, positions = (torch.zeros(shape, dtype=torch.int64) for _ in range(2))
        graph, folded, branches = _trace(model, uncaptured, ids, positions, max_seq_len, past, [])
        ways = branches.others()
        while ways:
            other, _, branches = _trace(model, uncaptured, ids, positions, max_seq_len, past, ways.pop())
            if not _same(graph, other):
                length = branches.shortest()
                raise CaptureError(
                    f"the model takes another way where a sequence is longer than {length} tokens, and one graph cannot be both:"
                    f" compile it with --max-seq-len {length}"
                )
            ways += branches.others()
        return Trace(graph, tensors, folded)


def _trace(
    model: torch.nn.Module,
    uncaptured: Uncaptured,
    ids: torch.Tensor,
    positions: torch.Tensor,
    max_seq_len: int,
    past: int | None,
    answers: list[bool],
) -> tuple[fx.GraphModule, dict[str, str], Branches]:
    """The graph, the folded layers, and what the model asked about its last position."""
    excluded: set[Hashable] = set()
    while True:
        with uncaptured.standing(), _left_as_found(model):
            folder, branches = LayerFolder(model, excluded), Branches(answers)
            try:
                return _trace_once(model, folder, branches, ids, positions, max_seq_len, past), folder.folded, branches
            except IndexUsed:
                continue  # the folder has excluded that layer's kind, so this ends
            except ModuleError as error:
                uncaptured.add(error)
            except OwnAttention:
                if uncaptured.first:  # it may be about what stands for a module
                    raise uncaptured.first from None
                raise


@contextmanager
def _left_as_found(model: torch.nn.Module) -> Iterator[None]:
    """What a forward keeps for the next one, as a table, would bring values of one trace into another."""
    before = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes, buffers in before:
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)


def _same(a: fx.GraphModule, b: fx.GraphModule) -> bool:
    """Whether two traces of a model are the same ops on the same tensors."""

    def tensors(graph: fx.GraphModule) -> list[torch.Tensor]:
        return [getattr(graph, str(node.target)) for node in graph.graph.nodes if node.op == "get_attr"]

    return str(a.graph) == str(b.graph) and all(x is y for x, y in zip(tensors(a), tensors(b), strict=True))


def cache_argument(model: torch.nn.Module) -> str:
    """The name by which a model takes its cache: transformers has begun to call `past_key_values` `cache`, class by class."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names and "past_key_values" not in names else "past_key_values"


def _trace_once(
    model: torch.nn.Module,
    folder: LayerFolder,
    branches: Branches,
    ids: torch.Tensor,
    positions: torch.Tensor,
    max_seq_len: int,
    past: int | None,
) -> fx.GraphModule:
    def step(input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        cache = TracedCache(max_seq_len, position_ids) if past is None else SizedCache(past, ids.shape[1])
        held = {cache_argument(model): cache}
        with Unknown(), LastPosition(position_ids, max_seq_len, branches):
            return model(input_ids=input_ids, position_ids=position_ids, use_cache=True, **held).logits

    paths = _ModulePaths(model)
    try:
        with paths.recording(), folder.active(), _quiet():
            # pre_dispatch keeps ops such as linear and matmul whole
            return make_fx(step, pre_dispatch=True, _allow_non_fake_inputs=True)(ids, positions)
    except (IndexUsed, OwnAttention):
        raise
    except UserError as error:
        raise paths.error(f": {error}") from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise paths.error(f" cannot be traced: {type(error).__name__}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch from logging a failing shape function with its stack: the CaptureError says it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _ModulePaths:
    """Notes on each traced node the module that ran it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._names = {id(module): path for path, module in model.named_modules()}
        self._stack: list[str] = []
        self._last: fx.Node | None = None

    def error(self, reason: str) -> ModuleError:
        """Of the module that was running when an error was raised."""
        path = self._stack[-1] if self._stack else ""
        return ModuleError(path, type(self._model.get_submodule(path)).__name__, reason)

    @contextmanager
    def recording(self) -> Iterator[None]:
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: torch.nn.Module, args: Any) -> None:
        self._mark()
        self._stack.append(self._names.get(id(module), self._stack[-1] if self._stack else ""))

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self._mark()
        self._stack.pop()

    def _mark(self) -> None:
        """Gives the nodes made since the last call to the module that is running."""
        mode: Any = get_proxy_mode()
        if mode is None:  # a module that is tried on numbers, in the middle of the trace
            return
        nodes = mode.tracer.graph.nodes
        node = self._last.next if self._last is not None else next(iter(nodes))
        while node.op != "root":
            node.meta[MODULE] = self._stack[-1] if self._stack else ""
            self._last, node = node, node.next


def _named_tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers by path; one that has several gets the first."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{path}.{name}".lstrip("."), tensor


@contextmanager
def _fake_weights(model: torch.nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """Replaces what comes from the checkpoint (parameters, persistent buffers) by fake tensors on the CPU.

    The other buffers keep their values, and a meta tensor does not mix with them.
    """
    fakes: dict[int, torch.Tensor] = {}  # by identity, so that tied weights stay tied
    before = [(m, dict(m._parameters), dict(m._buffers)) for m in model.modules()]

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            # Built directly: going through the dispatcher costs ten times as much, for hundreds of weights.
            fakes[id(tensor)] = FakeTensor(mode, tensor.detach().to("meta"), torch.device("cpu"))
        return fakes[id(tensor)]

    try:
        for module, parameters, buffers in before:
            module._parameters.update({n: fake(p) for n, p in parameters.items() if p is not None})  # type: ignore[misc]
            volatile = module._non_persistent_buffers_set
            module._buffers.update({n: fake(b) for n, b in buffers.items() if b is not None and n not in volatile})
        yield
    finally:
        for module, parameters, buffers in before:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
