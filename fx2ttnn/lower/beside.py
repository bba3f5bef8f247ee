"""Whether a layer can run beside the prefetcher, whose programs keep to a part of the cores."""

from __future__ import annotations

from fx2ttnn.ir import Capture
from fx2ttnn.lower.values import Call, Construct, Enum, Lowered
from fx2ttnn.names import layer_of
from fx2ttnn.precision import BYTES, Precision
from fx2ttnn.targets import Prefetcher, Target
from fx2ttnn.tiles import tiles

_TOLD = {"subdevice_id", "sub_device_id", "sub_core_grids"}  # arguments that say on which cores an operation runs

# Operations that run where their shards lie. Others take cores from the corner on, wherever their operands lie: on a mock whose one sub-device
# is the workers ttnn refuses softmax, typecast, slice and sum of sharded tensors, and takes these.
_WITH_SHARDS = frozenset(
    f"ttnn.{name}"
    for name in """
    add subtract multiply div minimum maximum gt ge lt eq where clamp gelu silu relu sigmoid softplus tanh square abs exp expm1
    rms_norm layer_norm layer_norm_pre_all_gather layer_norm_post_all_gather to_memory_config experimental.nlp_create_qkv_heads_decode
    experimental.paged_fused_update_cache experimental.paged_update_cache experimental.rotary_embedding_hf
    experimental.rotary_embedding_llama_fused_qk
    """.split()  # noqa: SIM905
)


def worthwhile(capture: Capture, target: Target, precision: Precision) -> bool:
    """Whether `target` can prefetch weights, and a layer's are so many that it may pay."""
    if target.prefetcher is None:
        return False
    first = next(filter(None, map(layer_of, capture.modules)), None)
    specs = {name: spec for name, spec in capture.parameter_specs.items() if layer_of(name) == first}
    size = sum(spec.numel for spec in specs.values()) * precision.bytes_of("weights") / target.chips
    return size >= target.prefetcher.least_bytes


def refusal(lowered: Lowered, target: Target) -> str | None:
    """Why a step cannot run beside the prefetcher of `target`; None where it can."""
    assert target.prefetcher is not None
    if others := not_beside(lowered):
        return f"{others[0].function} of {others[0].op.module} may take any core"
    if lowered.unsupported:
        return "not every operation has a row"
    return "a weight is too large" if too_large(lowered, target.prefetcher) else None


def not_beside(lowered: Lowered) -> list[Call]:
    """Calls of layers whose programs may take other cores: they do not say on which they run, and not all that they read and make is sharded."""
    return [call for call in lowered.calls if layer_of(call.op.module) and not _beside(call, lowered)]


def too_large(lowered: Lowered, prefetcher: Prefetcher) -> bool:
    """Whether the largest weight has no room where they arrive: ttnn counts its tiles in the widest type of all that are prefetched."""
    weights = [lowered.tensors[call.args[1]] for call in lowered.calls if "global_cb" in call.kwargs]
    widest = max((BYTES[weight.dtype] for weight in weights), default=0.0)
    slices = (prefetcher.slice_bytes(tiles(w.shape[-2]), tiles(w.width), widest) for w in weights)
    return max(slices, default=0) > prefetcher.buffer_bytes


def _beside(call: Call, lowered: Lowered) -> bool:
    program = call.kwargs.get("program_config")
    told = {*call.kwargs} | ({name for name, _ in program.kwargs} if isinstance(program, Construct) else set())
    if told & _TOLD or call.is_view:
        return True
    if call.function not in _WITH_SHARDS:  # nor a collective, which takes cores to send and receive, too
        return False
    if isinstance(call.kwargs.get("memory_config"), Enum):  # sharded by ttnn, over cores from the corner on
        return False
    held = {*lowered.parameters, *lowered.states}
    own = [lowered.tensors[value] for value in (*call.inputs, *call.outputs) if value not in held]
    sharded = [tensor.memory.buffer == "L1" and tensor.memory.kind != "interleaved" for tensor in own]
    if call.function == "ttnn.to_memory_config":  # the cores of the shards move them
        return any(sharded)
    return all(sharded)
