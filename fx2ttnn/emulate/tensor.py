"""What the patched ttnn functions give out: a real tensor of the mock mesh with the value of every chip's shard."""

from __future__ import annotations

from typing import Any

import torch


class EmulationError(RuntimeError):
    """The emulator cannot compute an operation, or computed something else than ttnn says."""


# Attributes and methods of ttnn.Tensor that read its spec or buffer, and so are true on a mock.
_REAL = frozenset(
    """
    shape dtype layout spec memory_config padded_shape device devices device_coords is_allocated storage_type
    is_sharded volume logical_volume get_dtype get_layout tile get_tile buffer_address buffer_page_size
    buffer_num_pages buffer_aligned_page_size buffer_unique_id tensor_topology update_tensor_topology element_size
    tensor_id
    """.split()  # noqa: SIM905
)


class Numbers:
    """The numbers of a tensor on the chips, apart from its buffer, so that a trace can keep them without the buffer.

    `value`: [r, c, *shard shape], of size 1 where all chips of an axis agree; `spec`: the ttnn.TensorSpec of a shard.
    `owned` says that no other tensor shares the value's memory, so that it may be changed in place. `replay` counts how often a
    trace has computed it.
    """

    def __init__(self, real: Any, value: torch.Tensor | None = None, owned: bool = True) -> None:
        self.spec = real.spec
        self.owned = owned
        self.missing = "holds no numbers before the trace that computes it is executed"
        self._value = value
        self._address = _address(real)
        self.replay = 0
        self._taken: tuple[Numbers, int] | None = None

    @property
    def dtype(self) -> str:
        return self.spec.dtype.name

    @property
    def value(self) -> torch.Tensor:
        if self._value is None:
            raise EmulationError(f"a tensor {self.missing}")
        if self._taken is not None:
            self._taken[0].refuse_later_replay(self._taken[1])
        return self._value

    @property
    def of_a_replay(self) -> bool:
        """Whether this is a view of what a trace computes, which a replay overwrites anyway."""
        return self._taken is not None and self._taken[1] > 0

    def refuse_later_replay(self, replay: int) -> None:
        """An error when these numbers are the result of a later replay than that after which a view of them was taken."""
        if replay not in (0, self.replay):
            raise EmulationError(
                f"a tensor is a view of the result of replay {replay} of a trace, and read after replay {self.replay}: the "
                "numbers that it was taken for are overwritten"
            )

    def shares_buffer(self, other: Numbers) -> bool:
        """Whether both are one buffer on the chip."""
        same = self._address is not None and self._address == other._address
        return same and self.spec.memory_config == other.spec.memory_config

    def shares_memory(self, value: torch.Tensor) -> bool:
        held = self._value
        return held is not None and held.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()

    def release(self) -> None:
        """Forget the numbers: the tensor was deallocated."""
        self.lose("is used after it was deallocated")

    def lose(self, why: str) -> None:
        """The numbers are overwritten or gone; whoever reads them is told `why`."""
        self._value, self.missing = None, why

    def writable(self, chips: tuple[int, int]) -> torch.Tensor:
        """The value with at least `chips` distinct chips, in memory of its own, to be changed in place."""
        value = self.value
        wanted = (max(chips[0], value.shape[0]), max(chips[1], value.shape[1]), *value.shape[2:])
        if tuple(value.shape) != wanted or not self.owned:
            # A fresh cache is all zeros: untouched zero pages cost no memory.
            self._value = value.expand(wanted).clone() if value.any() else torch.zeros(wanted, dtype=value.dtype)
            self.owned = True
        return self.value

    def store(self, value: torch.Tensor, copy: bool = True) -> None:
        """Takes over `value`, which is rounded already, in the memory it has, so that views see it.

        Without `copy`, `value` is nobody else's and may become the memory.
        """
        if self._value is not None and self.owned and self._value.shape == value.shape:
            self._value.copy_(value)
        else:
            self._value, self.owned = value.clone() if copy else value, True

    def share(self, value: torch.Tensor, owned: bool, view_of: Numbers | None = None) -> None:
        """Becomes `value`, without a copy. `view_of`: the numbers whose buffer this is, too."""
        self._value, self.owned = value, owned
        self._taken = None if view_of is None else (view_of, view_of.replay)


def _address(real: Any) -> int | None:
    """Where the buffer of a device tensor lies; None for one on the host, which has none."""
    import ttnn

    if real.storage_type() != ttnn.StorageType.DEVICE:
        return None
    try:
        return real.buffer_address()
    except (RuntimeError, TypeError):  # it was deallocated
        return None


class EmulatedTensor:
    """A tensor on the chips: `real`, the ttnn.Tensor on the mock mesh, and its `numbers`."""

    __slots__ = ("__weakref__", "numbers", "real")

    def __init__(self, real: Any, numbers: Numbers) -> None:
        self.real, self.numbers = real, numbers

    @property
    def value(self) -> torch.Tensor:
        return self.numbers.value

    def __getattr__(self, name: str) -> Any:
        if name in _REAL:
            return getattr(self.real, name)
        if name.startswith("__"):
            raise AttributeError(name)
        raise EmulationError(f"ttnn.Tensor.{name} has no emulation: add it to fx2ttnn/emulate/tensor.py")

    def __repr__(self) -> str:
        return f"EmulatedTensor({tuple(self.real.shape)}, {self.real.dtype}, {self.real.layout})"

    # Methods and operators of ttnn.Tensor that make tensors go through the patched functions.
    def __add__(self, other: Any) -> Any:
        return _ttnn().add(self, other)

    def __sub__(self, other: Any) -> Any:
        return _ttnn().subtract(self, other)

    def __mul__(self, other: Any) -> Any:
        return _ttnn().multiply(self, other)

    def __truediv__(self, other: Any) -> Any:
        return _ttnn().divide(self, other)

    def __matmul__(self, other: Any) -> Any:
        return _ttnn().matmul(self, other)

    def __radd__(self, other: Any) -> Any:
        return _ttnn().add(self, other)

    def __rmul__(self, other: Any) -> Any:
        return _ttnn().multiply(self, other)

    def __rsub__(self, other: Any) -> Any:
        return _ttnn().rsub(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _ttnn().rdiv(self, other)

    def __getitem__(self, slices: Any) -> Any:
        return _ttnn().Tensor.__getitem__(self, slices)

    def cpu(self, blocking: bool = True, cq_id: Any = None) -> Any:
        return _ttnn().from_device(self)

    def to(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        ttnn = _ttnn()
        if isinstance(target, ttnn.Layout):
            return ttnn.to_layout(self, target, *args, **kwargs)
        return ttnn.to_device(self, target, *args, **kwargs)

    def reshape(self, *shape: Any) -> Any:
        return _ttnn().reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else list(shape))

    def to_torch(self, mesh_composer: Any = None) -> torch.Tensor:
        return _ttnn().to_torch(self, mesh_composer=mesh_composer)

    def deallocate(self, force: bool = True) -> None:
        _ttnn().deallocate(self, force)


class ChipTensor(EmulatedTensor):
    """One chip's part of a tensor, to be read: it shows what the whole holds now. ttnn crashes on operations on it on a mock."""

    __slots__ = ("_chip", "_replay", "_whole")

    def __init__(self, real: Any, whole: EmulatedTensor, chip: tuple[int, int]) -> None:
        super().__init__(real, whole.numbers)
        self._whole, self._chip = whole, chip  # a trace keeps the numbers of tensors that the program holds
        self._replay = whole.numbers.replay

    @property
    def value(self) -> torch.Tensor:
        self._whole.numbers.refuse_later_replay(self._replay)
        value = self._whole.value
        row, col = (min(at, size - 1) for at, size in zip(self._chip, value.shape[:2], strict=True))
        return value[row : row + 1, col : col + 1]


def _ttnn() -> Any:
    import ttnn

    return ttnn
