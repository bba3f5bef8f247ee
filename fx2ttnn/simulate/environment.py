"""What ttnn needs to run its real kernels in a simulator: the simulator's library, a kernel compiler, and where ttnn finds them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from fx2ttnn.check.mock import NULL_KERNEL, cache_folder, made, mesh_graph, ttnn_package
from fx2ttnn.errors import UserError
from fx2ttnn.targets import Target

HOME = Path.home() / "sim"  # where both are looked for when nothing names them
COMPILER = "runtime/sfpi"
WHERE_SIMULATOR = "https://github.com/tenstorrent/ttsim/releases"
WHERE_COMPILER = "https://github.com/tenstorrent/sfpi/releases"
ROUTER_MILLISECONDS = (
    3_600_000  # the routers of a mesh shake hands within seconds of the simulated clock, minutes of ours
)

# Wormhole's unpacker is given an instruction more, of no effect on numbers, against a hardware bug (TEN-3868); the simulator refuses it as
# undefined behaviour (issues 17 and 18 of ttsim).
_HEADER = Path("tt_metal/tt-llk/tt_llk_wormhole_b0/common/inc/cunpack_common.h")
_AGAINST_BUG = re.compile(r"(// [^\n]*\(TEN-3868\)[^\n]*\n)(?:[ \t]*TTI?_[^\n]*\n){3}")


def simulator_environment(
    target: Target, simulator: Path | None = None, runtime: Path | None = None, fast_dispatch: bool = False
) -> dict[str, str]:
    """Environment variables under which ttnn opens `target` in the simulator; makes the files that they name, in a cache folder.

    `simulator`: its library; `runtime`: a folder with the kernel compiler in runtime/sfpi. Without them the environment's
    TT_METAL_SIMULATOR and TT_METAL_RUNTIME_ROOT count, then ~/sim. Traces need `fast_dispatch`, which is slower to start.
    Raises UserError where one is missing, with where to get it.
    """
    package, library = ttnn_package(), find_simulator(target, simulator)
    compiler = _find_compiler(package, runtime)
    cache = cache_folder() / "simulator"
    descriptor = "wormhole_b0_80_arch" if target.arch == "wormhole_b0" else "blackhole_140_arch"
    links = {
        library.name: library,
        "soc_descriptor.yaml": package
        / f"tt_metal/soc_descriptors/{descriptor}.yaml",  # ttnn reads it beside the library
    }
    key = _key(package, compiler, target.arch)
    home = made(cache / f"{library.stem}-{_key(library, package)}", lambda folder: _link(folder, links))
    root = made(cache / f"runtime-{key}", lambda folder: _make_root(folder, package, compiler, target))
    dispatch = "fast" if fast_dispatch else "slow"
    environment = {
        "TT_METAL_SIMULATOR": str(home / library.name),
        "TT_METAL_RUNTIME_ROOT": str(root),
        "TT_METAL_CACHE": str(
            cache / f"kernels-{key}-{dispatch}"
        ),  # kernels differ by dispatch, and never reach a card's
        "TT_METAL_LOGS_PATH": str(cache / "logs"),  # else ttnn makes a folder `generated` where it runs
        "TT_METAL_DISABLE_SFPLOADMACRO": "1",  # which the simulator lacks
        "TT_METAL_FABRIC_ROUTER_SYNC_TIMEOUT_MS": str(ROUTER_MILLISECONDS),
        "TT_METAL_LOGGER_LEVEL": os.environ.get("TT_METAL_LOGGER_LEVEL", "FATAL"),
        "LOGURU_LEVEL": os.environ.get("LOGURU_LEVEL", "WARNING"),
    }
    if not fast_dispatch:
        environment["TT_METAL_SLOW_DISPATCH_MODE"] = "1"
    if target.torus:  # ttnn finds smaller meshes by itself
        graph = made(
            home / f"{target.name}.d", lambda folder: (folder / "graph.textproto").write_text(mesh_graph(target))
        )
        environment["TT_MESH_GRAPH_DESC_PATH"] = str(graph / "graph.textproto")
    return environment


def find_simulator(target: Target, given: Path | None = None) -> Path:
    """The simulator's library for `target`: `given`, what TT_METAL_SIMULATOR names, or ~/sim's for so many chips of this kind."""
    name = target.simulator_library
    named = given or os.environ.get("TT_METAL_SIMULATOR")
    library = Path(named) if named else HOME / name
    if library.is_file():
        return library.resolve()
    found = f"there is no simulator at {library}"
    raise UserError(
        f"{found}: tests run on the vendor's kernels in Tenstorrent's simulator ttsim. Its releases are at {WHERE_SIMULATOR}; put {name}"
        f" for {target.name} into {HOME}, or name it with --simulator or TT_METAL_SIMULATOR"
    )


def _find_compiler(package: Path, given: Path | None) -> Path:
    """The folder sfpi of the kernel compiler."""
    named = os.environ.get("TT_METAL_RUNTIME_ROOT")
    roots = [given] if given else [*([Path(named)] if named else []), *sorted(HOME.glob("*")), package]
    places = [root / COMPILER for root in roots] + ([] if given else [Path("/opt/tenstorrent/sfpi")])
    for place in places:
        binaries = place / "compiler/bin"
        if (binaries / "riscv-tt-elf-g++").is_file() and not (binaries / NULL_KERNEL).exists():  # not the mock's
            return place.resolve()
    raise UserError(
        f"there is no kernel compiler in {', '.join(map(str, places))}: it compiles the vendor's kernels for the simulator. Its releases are at"
        f" {WHERE_COMPILER} (the version that ttnn wants stands in {package}/tt_metal/sfpi-version); name a folder that has it in"
        f" {COMPILER} with --runtime or TT_METAL_RUNTIME_ROOT"
    )


def _make_root(root: Path, package: Path, compiler: Path, target: Target) -> None:
    """A folder that looks like the installed ttnn, with a kernel compiler, and on Wormhole without the instruction of _AGAINST_BUG."""
    (root / "runtime").mkdir()
    _link(root / "runtime", {"hw": package / "runtime/hw", "sfpi": compiler})
    patched = _HEADER if target.arch == "wormhole_b0" and (package / _HEADER).is_file() else Path()
    _mirror(root, package, patched)
    if patched.parts:
        (root / patched).write_text(_AGAINST_BUG.sub(r"\1", (package / patched).read_text()))


def _mirror(root: Path, package: Path, without: Path, here: Path = Path()) -> None:
    """Links to every entry of `package` but `without`, whose parents become folders of their own."""
    (root / here).mkdir(exist_ok=True)
    for entry in (package / here).iterdir():
        relative = here / entry.name
        if relative in (Path("runtime"), without):
            continue
        if without.is_relative_to(relative):
            _mirror(root, package, without, relative)
        else:
            (root / relative).symlink_to(entry)


def _link(folder: Path, links: Mapping[str, Path]) -> None:
    for name, path in links.items():
        (folder / name).symlink_to(path)


def _key(*parts: Path | str) -> str:
    """Names a folder after what it was made from: another ttnn or compiler gets another one."""
    states = [(p.stat().st_size, p.stat().st_mtime_ns) for p in parts if isinstance(p, Path)]
    return hashlib.sha256(repr((*map(str, parts), states)).encode()).hexdigest()[:12]
