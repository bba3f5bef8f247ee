"""A mock cluster: the real ttnn library on a mesh of chips that are not there.

ttnn replaces its driver by a mock when `TT_METAL_MOCK_CLUSTER_DESC_PATH` names a cluster descriptor. All host code stays
real: argument validation, output specs, program construction, L1 and DRAM allocation. Only the arithmetic is missing.
This file writes what ttnn needs for that (cluster descriptor, mesh graph, a runtime root whose kernel compiler produces
null kernels) into a cache folder. Nothing is written into site-packages or /opt.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fx2ttnn.targets import Target, Trays

NULL_KERNEL = "null.elf"


def cluster_descriptor(target: Target) -> str:
    """YAML cluster descriptor of `target`: its chips, and the Ethernet channels to each mesh neighbour."""
    rows, cols = target.mesh_shape
    chips = range(rows * cols)
    free = {chip: iter(range(target.ethernet_channels)) for chip in chips}
    links = []
    for row in range(rows):
        for col in range(cols):
            here = row * cols + col
            for there in _next_neighbours(row, col, rows, cols, target.torus):
                for _ in range(target.links):
                    ends = ", ".join(f"{{chip: {c}, chan: {next(free[c])}}}" for c in (here, there))
                    links.append(f"  - [{ends}]")
    lines = ["arch:", *(f"  {c}: {target.arch}" for c in chips)]
    lines += ["chips: {}", "chip_unique_ids:", *(f"  {c}: {1000 + c}" for c in chips)]
    lines += ["ethernet_connections:" if links else "ethernet_connections: []", *links]
    lines += ["ethernet_connections_to_remote_devices: []"]
    lines += ["chips_with_mmio:", *(f"  - {c}: {c}" for c in chips)]
    lines += ["harvesting:"]
    masks = {"dram": 0, "eth": target.eth_harvesting, "pcie": target.pcie_harvesting}
    for c in chips:
        lines += [f"  {c}:", "    noc_translation: true", f"    harvest_mask: {target.tensix_harvesting}"]
        lines += [f"    {part}_harvesting_mask: {mask}" for part, mask in masks.items()]
    # umd reads a board's type from the upper bits of its serial number. ttnn closes the rings of a Galaxy only, whose chips
    # it knows by their buses; anywhere else it runs every ring as a line.
    if target.trays is None:
        lines += ["chip_to_bus_id: {}", "boards:"]
        for c in chips:
            lines += _board(target.board, (target.board_serial << 36) + c, [c])
    else:
        places = enumerate(_places(target.trays, rows, cols))
        lines += ["chip_to_bus_id:", *(f"  {c}: {bus + place:#04x}" for c, (_, bus, place) in places), "boards:"]
        lines += _board(target.trays.board, target.trays.board_serial << 36, chips)
    return "\n".join(lines) + "\n"


def grouping(target: Target) -> str:
    """Textproto of the meshes that ttnn may find on the trays of a Galaxy: here the whole one. ttnn's wheel has no such file."""
    rows, cols = target.mesh_shape
    places = enumerate(_places(target.trays, rows, cols) if target.trays else ())
    chips = ",\n".join(
        f"    {{ id: {c} location {{ asic_location: ASIC_LOCATION_{place} tray_id: TRAY_{tray} }} }}"
        for c, (tray, _, place) in places
    )
    return f"""groupings {{
  name: "{target.name}"
  preset_type: MESH
  instances: [
{chips}
  ]
  row_major_mesh {{ dims: [{rows}, {cols}] }}
}}
"""


def _board(kind: str, serial: int, chips: Sequence[int]) -> list[str]:
    head = [f"  - - board_id: {serial}", f"    - board_type: {kind}", "    - chips:"]
    return head + [f"      - {c}" for c in chips]


def _places(trays: Trays, rows: int, cols: int) -> Iterator[tuple[int, int, int]]:
    """Tray, its first bus and the place on it of each chip, row by row: places count from the corner of the mesh, down first."""
    for row in range(rows):
        for col in range(cols):
            tray, bus = trays.quarters[2 * (2 * row // rows) + 2 * col // cols]
            yield tray, bus, 1 + min(row, rows - 1 - row) + rows // 2 * min(col, cols - 1 - col)


def mesh_graph(target: Target) -> str:
    """Textproto mesh graph of `target`."""
    rows, cols = target.mesh_shape
    kinds = ", ".join("RING" if target.torus and n > 2 else "LINE" for n in (rows, cols))
    return f"""mesh_descriptors {{
  name: "M0"
  arch: {target.arch.upper()}
  device_topology {{ dims: [{rows}, {cols}] dim_types: [{kinds}] }}
  host_topology {{ dims: [1, 1] }}
  channels {{ count: {target.links} policy: RELAXED }}
}}
top_level_instance {{ mesh {{ mesh_descriptor: "M0" mesh_id: 0 }} }}
"""


def _next_neighbours(row: int, col: int, rows: int, cols: int, torus: bool) -> list[int]:
    """Chips one step down and one step right of (row, col); around the edge on a torus of more than two."""
    found = []
    if row + 1 < rows or (torus and rows > 2):
        found.append((row + 1) % rows * cols + col)
    if col + 1 < cols or (torus and cols > 2):
        found.append(row * cols + (col + 1) % cols)
    return found


def mock_environment(target: Target, cache: Path | None = None) -> dict[str, str]:
    """Environment variables under which `import ttnn` opens `target` as a mock; writes the files that they name.

    The files are written once per target and ttnn version, atomically, so that several processes may start at once.
    """
    package = ttnn_package()
    version = compiler_version(package)
    texts = {"cluster.yaml": cluster_descriptor(target), "mesh_graph.textproto": mesh_graph(target)}
    texts |= {"grouping.textproto": grouping(target)} if target.trays else {}
    compiler = _COMPILER.replace("@VERSION@", version).replace("@NULL_KERNEL@", NULL_KERNEL)
    key = hashlib.sha256("\0".join([str(package), compiler, *texts.values()]).encode()).hexdigest()[:16]
    root = (cache or cache_folder()) / "mock" / f"{target.name}-{key}"

    def fill(folder: Path) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text)
        _write_runtime_root(folder / "runtime_root", package, compiler)

    made(root, fill)
    trays = {"TT_METAL_PHYSICAL_GROUPING_DESCRIPTOR_PATH": str(root / "grouping.textproto")} if target.trays else {}
    return trays | {
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": str(root / "cluster.yaml"),
        "TT_MESH_GRAPH_DESC_PATH": str(root / "mesh_graph.textproto"),
        "TT_METAL_RUNTIME_ROOT": str(root / "runtime_root"),
        "TT_METAL_LOGS_PATH": str(root / "logs"),  # else ttnn makes a folder `generated` where it runs
        "TT_METAL_CACHE": str(root / "kernel_cache"),  # null kernels never reach the cache of a real card
        "TT_METAL_LOGGER_LEVEL": os.environ.get("TT_METAL_LOGGER_LEVEL", "FATAL"),
        "LOGURU_LEVEL": os.environ.get("LOGURU_LEVEL", "WARNING"),
    }


def without_hardware(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without ttnn's variables: they may name a simulator, or another way of dispatch, and a mock or a simulator names its own."""
    return {name: value for name, value in environment.items() if not name.startswith("TT_")}


def cache_folder() -> Path:
    """Where files are kept that are made once for a target and a version."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fx2ttnn"


def made(folder: Path, fill: Callable[[Path], object]) -> Path:
    """`folder`, made at once and whole if it is not there: several processes may start together."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent))
        fill(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another process was first
            if not folder.exists():
                raise
    return folder


def ttnn_package() -> Path:
    """Folder of the installed ttnn package, found without importing it."""
    spec = importlib.util.find_spec("ttnn")
    if spec is None or spec.origin is None:
        raise RuntimeError("ttnn is not installed: run `make setup`")
    return Path(spec.origin).parent


def compiler_version(package: Path) -> str:
    """First line of `riscv-tt-elf-g++ --version` that the wheel's precompiled firmware was built with.

    ttnn compiles the firmware anew when the compiler reports anything else, which a null compiler cannot do.
    """
    for elf in sorted(package.glob("tt_metal/pre-compiled/**/brisc.elf")):
        found = re.search(rb"GCC: \(([^)]*)\) ([0-9.]+)", elf.read_bytes())
        if found:
            return f"riscv-tt-elf-g++ ({found[1].decode()}) {found[2].decode()}"
    raise RuntimeError(f"no precompiled firmware with a compiler version below {package}")


def _write_runtime_root(root: Path, package: Path, compiler: str) -> None:
    """A folder that looks like the ttnn package, with a kernel compiler of its own."""
    binaries = root / "runtime" / "sfpi" / "compiler" / "bin"
    binaries.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name != "runtime":
            (root / entry.name).symlink_to(entry)
    (root / "runtime" / "hw").symlink_to(package / "runtime" / "hw")
    (binaries / NULL_KERNEL).write_bytes(null_kernel())
    for name in ("riscv-tt-elf-g++", "riscv-tt-elf-objcopy"):
        (binaries / name).write_text(compiler)
        (binaries / name).chmod(0o755)


# A shell script, not Python: ttnn starts it once for each kernel, hundreds of times.
_COMPILER = """#!/bin/sh
here=$(dirname "$0")
case " $* " in *" --version "*) echo "@VERSION@"; exit 0;; esac
compile=; out=; deps=
while [ $# -gt 0 ]; do
  case "$1" in
    -c) compile=1;;
    -o) out=$2; shift;;
    -MF) deps=$2; shift;;
  esac
  shift
done
[ -n "$out" ] || exit 0
[ -n "$deps" ] && echo "$out:" > "$deps"
if [ -n "$compile" ]; then : > "$out"; else cp "$here/@NULL_KERNEL@" "$out"; fi
"""


def null_kernel() -> bytes:
    """A 32-bit RISC-V executable with an empty text and data segment and one relocation: what ttnn's loader asks for."""
    text, data = b"\x67\x80\x00\x00" * 4, b"\0" * 16  # `ret`
    text_address, data_address = 0x10000, 0x20000
    names = b"\0.text\0.data\0.rela.text\0.symtab\0.strtab\0.shstrtab\0"
    header_size, segment_size, section_size = 52, 32, 40
    offset = header_size + 2 * segment_size
    text_at, data_at = offset, offset + len(text)
    rela = struct.pack("<IIi", text_address, 0, 0)  # R_RISCV_NONE
    rela_at = data_at + len(data)
    symbols = b"\0" * 16
    symbols_at = rela_at + len(rela)
    strings_at = symbols_at + len(symbols)
    names_at = strings_at + 1
    sections_at = (names_at + len(names) + 3) // 4 * 4

    def section(
        name: bytes,
        kind: int,
        flags: int,
        address: int,
        at: int,
        size: int,
        link: int = 0,
        info: int = 0,
        entry: int = 0,
    ) -> bytes:
        return struct.pack(
            "<10I", names.index(b"\0" + name + b"\0") + 1, kind, flags, address, at, size, link, info, 4, entry
        )

    def segment(at: int, address: int, load: int, size: int, flags: int) -> bytes:
        return struct.pack("<8I", 1, at, address, load, size, size, flags, 4)

    header = b"\x7fELF\x01\x01\x01" + b"\0" * 9
    header += struct.pack(
        "<HHIIIIIHHHHHH",
        2,
        243,
        1,
        text_address,
        header_size,
        sections_at,
        0,
        header_size,
        segment_size,
        2,
        section_size,
        7,
        6,
    )
    body = header + segment(text_at, text_address, text_address, len(text), 5)
    body += segment(data_at, data_address, text_address + len(text), len(data), 6)  # loaded right behind the text
    body += text + data + rela + symbols + b"\0" + names
    body += b"\0" * (sections_at - len(body))
    body += b"\0" * section_size
    body += section(b".text", 1, 6, text_address, text_at, len(text))
    body += section(b".data", 1, 3, data_address, data_at, len(data))
    body += section(b".rela.text", 4, 0x40, 0, rela_at, len(rela), link=4, info=1, entry=12)
    body += section(b".symtab", 2, 0, 0, symbols_at, len(symbols), link=5, info=1, entry=16)
    body += section(b".strtab", 3, 0, 0, strings_at, 1)
    body += section(b".shstrtab", 3, 0, 0, names_at, len(names))
    return body
