"""tests/modules and tests/model: every emitted class, and the model, against Hugging Face's module with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from fx2ttnn.emit.code import Writer
from fx2ttnn.emit.model import prepare
from fx2ttnn.emit.units import Unit
from fx2ttnn.lower import BLOCK_SIZE
from fx2ttnn.lower.values import Lowered
from fx2ttnn.plan import Plan
from fx2ttnn.plan.segments import layer_of


def module_test_files(
    plan: Plan, lowered: Lowered, root: Unit, writer: Writer, render: Callable[..., str]
) -> dict[str, str]:
    """Files of tests/modules and tests/model by name."""
    producers = {value: unit for unit in _units(root) for value in unit.outputs}
    tables = [
        u for u in root.children if not u.children and all(v in lowered.inputs for v in u.inputs) and _is_table(u)
    ]
    representatives = [u for u in root.children if layer_of(u.path) == u.path]
    caches = {v: t for v, t in lowered.tensors.items() if lowered.states.get(v) == "layer"}
    cache = next(iter(caches.values()))
    pages = -(-plan.capture.max_seq_len // BLOCK_SIZE)
    files = {
        "tests/modules/__init__.py": "",
        "tests/model/__init__.py": "",
        "tests/reference.py": render(
            "reference.py.j2",
            layers=1 + max(int(u.path.rsplit(".", 1)[1]) for u in representatives),
            layers_path=representatives[0].path.rsplit(".", 1)[0],
            page_table_dims=lowered.tensors["page_table"].mesh_dims,
            users_per_chip=lowered.tensors["page_table"].shape[0],
            cache=cache,
            cache_users=cache.shape[0] // pages * prod(plan.target.mesh_shape[a] for a in cache.axes_of(0)),
        ),
        "tests/model/test_decode.py": render("model_test.py.j2", class_name=root.class_name),
    }
    done: set[str] = set()
    by_file: dict[str, list[dict[str, Any]]] = {}
    for unit in _units(root):
        if unit.class_name in done:
            continue
        done.add(unit.class_name)
        by_file.setdefault(unit.file, []).append(_test(unit, plan, lowered, writer, producers, tables))
    for file, tests in by_file.items():
        imports = sorted({pair for t in tests for pair in t["imports"]})
        files[f"tests/modules/test_{file}.py"] = render("module_test.py.j2", tests=tests, imports=imports, file=file)
    return files


def _units(root: Unit) -> list[Unit]:
    found = []
    for child in root.children:
        found += [*_units(child), child]
    return found


def _is_table(unit: Unit) -> bool:
    return all(call.op.name == "position_table" for call in unit.all_calls())


def _test(
    unit: Unit, plan: Plan, lowered: Lowered, writer: Writer, producers: Mapping[str, Unit], tables: list[Unit]
) -> dict[str, Any]:
    """Statements of one test: build the module, and for every step feed it what Hugging Face's module got."""
    imports = {(unit.file, unit.class_name)}
    build = [f"module = {unit.class_name}(mesh_device, weights.at({unit.path!r}))"]
    feed: list[str] = []
    arguments: list[str] = []
    layer = layer_of(unit.path)
    caches = [v for v in unit.inputs if lowered.states.get(v) == "layer"]
    if caches:
        names = [writer.preferred[v] for v in caches]
        build.append(
            f"{', '.join(names)} = reference.kv_cache(mesh_device, {int(layer.rsplit('.', 1)[1]) if layer else 0})"
        )
    made: set[str] = set()
    for value in unit.inputs:
        name = writer.preferred[value]
        source = producers.get(value)
        if value in lowered.states:
            if lowered.states[value] == "model":
                feed.append(f"{name} = {_prepare(value, lowered)}")
        elif value in lowered.inputs:
            feed.append(f"{name} = {_prepare(value, lowered)}")
        elif source in tables and source is not None:
            if source.path not in made:
                made.add(source.path)
                imports.add((source.file, source.class_name))
                attribute = f"{source.attribute}"
                build.append(f"{attribute} = {source.class_name}(mesh_device, weights.at({source.path!r}))")
                inputs = ", ".join(_prepare(v, lowered) for v in source.inputs)
                feed.append(f"{', '.join(writer.preferred[o] for o in source.outputs)} = {attribute}.forward({inputs})")
        else:
            tensor = lowered.tensors[value]
            memory = writer.configs.expression(tensor.memory)
            feed.append(
                f"{name} = to_mesh(mesh_device, decode_hidden(step.before[{unit.path!r}]), {tensor.mesh_dims}, "
                f"ttnn.{tensor.dtype}, memory_config={memory})"
            )
        arguments.append(name)
    outputs = [(f"output_{n}" if n else "output", v) for n, v in enumerate(unit.outputs)]
    compare = []
    for index, (name, value) in enumerate(outputs):
        expected = f"step.after[{unit.path!r}][{index}]"
        dims = lowered.tensors[value].mesh_dims
        users = ", ".join([":"] * plan.orders[value.split(".")[0]].index(0) + [": cfg.BATCH"])
        compare.append(f"assert_pcc(from_mesh(mesh_device, {name}, {dims})[{users}], {expected}, cfg.PCC)")
    return {
        "name": unit.class_name.lower() if unit.class_name.islower() else _snake(unit.class_name),
        "path": unit.path,
        "imports": imports,
        "build": build,
        "feed": feed,
        "run": f"{', '.join(n for n, _ in outputs)} = module.forward({', '.join(arguments)})",
        "compare": compare,
    }


def _prepare(value: str, lowered: Lowered) -> str:
    text = prepare(value, lowered, prefix="")
    return (
        text.replace("(positions", "(step.positions")
        .replace("(tokens", "(step.tokens")
        .replace("(page_table", "(reference.page_table")
    )


def _snake(name: str) -> str:
    return "".join(
        f"_{c.lower()}" if c.isupper() and i and not name[i - 1].isupper() else c.lower() for i, c in enumerate(name)
    )
