"""The stages in order: from a model's name to a package."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fx2ttnn import targets
from fx2ttnn.errors import UserError
from fx2ttnn.models.locate import Location, locate
from fx2ttnn.precision import chosen

if TYPE_CHECKING:  # torch takes seconds to load, which `--help` and `targets` need not wait for
    from fx2ttnn.capture import ModelSource
    from fx2ttnn.graph.passes import Pass, Watch
    from fx2ttnn.ir import Capture, Graph
    from fx2ttnn.lower.program import Program
    from fx2ttnn.lower.values import Lowered
    from fx2ttnn.plan import Plan
    from fx2ttnn.report.coverage import Coverage

STAGES = ("load", "capture", "recognise", "plan", "fuse", "lower", "prefill", "report", "emit")
SHORT_CHUNK, MIDDLE_CHUNK, LONG_CHUNK = 128, 512, 2048
# Of the time in which a weight arrives, what planning counts beside its matmul: one or the other is nearer to what a step waits.
STREAM_SHARES = (0.0, 0.25)
MARKER = "report/coverage.json"  # a folder that has it was written by us and may be replaced
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a compile is asked for. `layers` shortens the model; None keeps it whole. `module`: see `load_source`."""

    model: str
    target: str = "galaxy"
    batch: int = 32
    max_seq_len: int | None = None
    precision: str = "performance"
    fidelity: str | None = None  # of matmuls, and the type of gate and up projections: None as the precision has them
    gates: str | None = None
    layers: int | None = None
    module: str | None = None
    prefetch: bool | None = None  # whether weights of layers are prefetched: None where it pays
    host_fallback: bool = False  # operations that no row takes may run on the host


@dataclass(frozen=True)
class Compiled:
    """The value of every stage. `capture`, `recognised`, `plan` and `lowered` are of the decode step; `program` has prefill too.

    `notes`: what a user should know of the model's files.
    """

    capture: Capture
    recognised: Capture
    plan: Plan
    lowered: Lowered
    program: Program
    coverage: Coverage
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every operation of the model has its ttnn calls, in decode and in prefill."""
        return not any(graph.unsupported for graph in self.program.graphs)


def compile_model(options: Options, dump: Path | None = None, progress: Progress = lambda stage: None) -> Compiled:
    """Run all stages but emit. Raises UserError for bad input; unsupported operations are in the result."""
    check_options(options)
    target = targets.load(options.target)
    progress("load")
    from fx2ttnn.lower import ttnn_api

    ttnn_api.start()  # reads ttnn's signatures while the model is loaded, the first time
    from fx2ttnn.capture import capture_decode, load_source
    from fx2ttnn.graph.verify import verify

    source = load_source(options.model, options.layers, options.module)
    length = options.max_seq_len or min(4096, getattr(source.config, "max_position_embeddings", 4096))
    progress("capture")
    # A decode step holds a whole tile of rows; the users fill the first of them and the other rows idle.
    capture = capture_decode(source.config, target.max_batch, length, source.model_class)
    capture = replace(
        capture,
        users=options.batch,
        config=source.fields,
        module=source.module,
        part_of=source.part_of,
        whole_layers=source.whole_layers,
    )
    verify(capture.graph, "capture")
    _dump(dump, "1_capture.txt", capture.graph)
    recognised, planned, lowered = _with_decode(capture, target, options, dump, progress)
    progress("prefill")
    program = _with_prefill(source, planned, lowered, dump, options.host_fallback)
    progress("report")
    from fx2ttnn.report.coverage import coverage

    found = coverage(program)
    _dump(dump, "coverage.md", found.markdown())
    return Compiled(capture, recognised, planned, lowered, program, found, source.notes)


class _Step(NamedTuple):
    """A decode step as it passes through the stages."""

    recognised: Capture
    planned: Plan
    fused: Plan
    lowered: Lowered


def _with_decode(
    capture: Capture, target: targets.Target, options: Options, dump: Path | None, progress: Progress
) -> tuple[Capture, Plan, Lowered]:
    """What is recognised of a decode step, its plan and its ttnn graph: beside the prefetcher where that pays and every operation of the layers can."""
    from fx2ttnn.fuse import fuse
    from fx2ttnn.graph.verify import verify
    from fx2ttnn.lower import lower
    from fx2ttnn.lower.beside import refusal, worthwhile
    from fx2ttnn.plan import plan
    from fx2ttnn.profile.predicted import SHORT, Load, Predicted, predicted
    from fx2ttnn.recognise import recognise

    precision = chosen(options.precision, options.fidelity, options.gates)

    def recognised_for(machine: targets.Target) -> Capture:
        progress("recognise")
        return recognise(capture, _dump_passes(dump, "2_recognise"), machine.prefetching, max(machine.mesh_shape))

    def step(recognised: Capture, machine: targets.Target) -> _Step:
        progress("plan")
        planned = plan(recognised, machine, precision)
        verify(planned.graph, "plan")
        progress("fuse")
        fused = fuse(planned)
        progress("lower")
        return _Step(recognised, planned, fused, lower(fused, host_fallback=options.host_fallback))

    def beside() -> _Step:
        """The fastest on the prefetcher's workers, as it is predicted of a short text; UserError where there is none."""
        found: list[tuple[Predicted, _Step]] = []
        why: UserError | None = None
        recognised = recognised_for(target.with_prefetcher())
        for share in STREAM_SHARES:
            try:
                tried = step(recognised, target.with_prefetcher(share))
                if reason := refusal(tried.lowered, tried.planned.target):
                    raise UserError(f"--prefetch: {reason}: leave it out, or say --no-prefetch")
            except UserError as error:  # such as weights for which a chip has no room as this plan holds them
                why = error
                continue
            found.append((predicted(tried.planned, tried.lowered, Load(capture.users, SHORT)), tried))
            if not found[-1][0].waiting:  # the weights always come in time
                break
        if why and not found:
            raise why
        return min(found, key=lambda one: one[0].seconds)[1]

    taken = None
    if worthwhile(capture, target, precision) if options.prefetch is None else options.prefetch:
        try:
            taken = beside()
        except UserError:
            if options.prefetch:
                raise
    taken = taken or step(recognised_for(target), target)
    _dump(dump, "2_recognise.txt", taken.recognised.graph)
    _dump(dump, "3_plan.txt", taken.planned)
    _dump(dump, "4_fuse.txt", taken.fused)
    _dump(dump, "5_lower.txt", taken.lowered)
    return taken.recognised, taken.planned, taken.lowered


def _with_prefill(
    source: ModelSource, decode: Plan, lowered: Lowered, dump: Path | None, host_fallback: bool = False
) -> Program:
    """The program of decode and prefill, which is planned and lowered for each length of a chunk.

    Where the long chunk is for prompts from their first token on, the others have one of middle length, too, by the plan of the short one.
    """
    from fx2ttnn.capture import capture_prefill
    from fx2ttnn.fuse import fuse
    from fx2ttnn.graph.verify import verify
    from fx2ttnn.lower import lower
    from fx2ttnn.lower.program import Program
    from fx2ttnn.lower.sampling import lower_sampling
    from fx2ttnn.plan import plan
    from fx2ttnn.recognise import recognise

    whole = decode.capture

    def captured(tokens: int) -> Capture:
        found = capture_prefill(source.config, tokens, whole.max_seq_len, source.model_class)
        found = recognise(found, None, decode.target.prefetching, max(decode.target.mesh_shape))
        return replace(found, users=whole.users, config=whole.config, whole_layers=whole.whole_layers)

    plans = {
        n: plan(captured(n), decode.target, decode.precision, decode, continues=n < LONG_CHUNK)
        for n in prefill_lengths(whole.max_seq_len)
    }
    _dump(dump, "6_prefill_recognise.txt", plans[max(plans)].capture.graph)
    if plans[max(plans)].attention_axes(2) & decode.attention_axes(0):  # the long chunk is for whole prompts only
        middle = plans[SHORT_CHUNK].at_length(captured(MIDDLE_CHUNK))
        plans = dict(sorted({**plans, MIDDLE_CHUNK: middle}.items()))
    for planned in plans.values():
        verify(planned.graph, "plan of prefill")
    graphs = {n: lower(fuse(planned), decode=lowered, host_fallback=host_fallback) for n, planned in plans.items()}
    _dump(dump, "7_prefill_plan.txt", "\n".join(f"{n} tokens\n{planned}" for n, planned in plans.items()))
    _dump(dump, "8_prefill_lower.txt", "\n".join(f"{n} tokens\n{graph}" for n, graph in graphs.items()))
    sampling = (
        None
        if lowered.unsupported
        else lower_sampling(decode, lowered, decode.graph.specs[decode.graph.outputs[0]].shape[-1])
    )
    _dump(dump, "9_sampling_lower.txt", sampling)
    return Program(decode, lowered, plans, graphs, sampling)


def prefill_lengths(max_seq_len: int) -> tuple[int, ...]:
    """Numbers of tokens of a chunk: a short one, and a long one that keeps every core busy (docs/sources.md, Galaxy demo)."""
    if max_seq_len < SHORT_CHUNK:
        return (min(n for n in (32, 64, SHORT_CHUNK) if n >= max_seq_len),)
    return tuple(n for n in (SHORT_CHUNK, LONG_CHUNK) if n <= max_seq_len)


def check_options(options: Options) -> Location:
    """UserError for what can be known to be wrong before torch is loaded, which takes seconds; returns where the model is."""
    check_batch(options.batch, targets.load(options.target))
    chosen(options.precision, options.fidelity, options.gates)
    if options.prefetch and targets.load(options.target).prefetcher is None:
        raise UserError(f"--prefetch: {options.target} has no cores for it; the Galaxy has (see `fx2ttnn targets`)")
    return locate(options.model)


def check_batch(batch: int, target: targets.Target) -> None:
    """UserError unless 1 to 32 users: the rows of a tile, which a decode step holds on every chip."""
    if not 1 <= batch <= target.max_batch:
        raise UserError(
            f"batch {batch} is outside 1 to {target.max_batch}, what a decode step on {target.name} holds in one tile"
        )


def write_package(compiled: Compiled, out: Path) -> None:
    """Emit the package into `out`, whole or not at all."""
    from fx2ttnn.emit import emit
    from fx2ttnn.report.data import write as write_data

    with replacing(out) as fresh:
        emit(compiled.program, fresh)
        compiled.coverage.write(fresh / "report")
        write_data(fresh, compiled.program)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `out` when the block ends well, and is gone when it does not.

    Raises UserError where `out` holds files that are not of a package.
    """
    check_replaceable(out)
    with _as_user_error(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with _as_user_error(out):
            yield fresh
            fresh.chmod(0o755)
            if out.exists():
                old = fresh.with_name(fresh.name + ".old")
                out.rename(old)
                fresh.rename(out)
                shutil.rmtree(old)
            else:
                fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """UserError where something other than an earlier package or an empty folder stands at `out`."""
    if out.is_dir():
        if any(out.iterdir()) and not (out / MARKER).exists():
            raise UserError(f"{out} exists and holds files that fx2ttnn did not write: choose another folder with -o")
    elif out.exists() or out.is_symlink():
        raise UserError(f"{out} exists and is not a folder: choose another folder with -o")


@contextmanager
def _as_user_error(out: Path) -> Iterator[None]:
    """File-system failures as a message: a full disk, no permission."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}; nothing was written") from error


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends a compile as Ctrl-C does, so that nothing is left half-written."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dump(folder: Path | None, name: str, value: object) -> None:
    if folder is not None:
        with _as_user_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(str(value))


def _dump_passes(folder: Path | None, name: str) -> Watch | None:
    """Writes what each pass changed and the graph behind it, one file for each that changed something."""
    if folder is None:
        return None
    from fx2ttnn.graph.passes import changes

    shutil.rmtree(folder / name, ignore_errors=True)  # of an earlier compile
    numbers = count(1)

    def write(one: Pass, before: Graph, after: Graph) -> None:
        number = next(numbers)
        if lines := changes(before, after):
            _dump(folder / name, f"{number:02}_{one.name}.txt", "\n".join([*lines, "", str(after)]))

    return write


def default_out(model: str, target: str) -> Path:
    """`generated/<model>_<target>` with the model's name as an identifier."""
    stem = Path(model.rstrip(os.sep)).name.removesuffix(".json")
    name = "".join(c if c.isalnum() else "_" for c in stem.lower()).strip("_") or "model"
    return Path("generated") / f"{name}_{target}"
