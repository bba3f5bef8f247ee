"""tests/modules and tests/model: every emitted class, and the model, against Hugging Face's module with the same weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from fx2ttnn.capture.step import build_model, numbers_of
from fx2ttnn.emit.classes import ROLE_FILES
from fx2ttnn.emit.code import Writer, prefetched
from fx2ttnn.emit.model import prepare
from fx2ttnn.emit.scores import SCORES, SCORES_OF_MIXTURES, Sizes, sizes_of_scores
from fx2ttnn.emit.units import Unit, attribute_of
from fx2ttnn.ir import Capture, Graph
from fx2ttnn.lower.program import SHORT, Program
from fx2ttnn.lower.values import Call
from fx2ttnn.names import common_module, layer_of, lies_in
from fx2ttnn.plan import Plan
from fx2ttnn.recognise.tables import border_of

_WEIGH = ("scale_by_routing", "scale_both_by_routing")
LARGE = 1 << 30  # parameters of a layer: 2 GB in bfloat16, in the reference and on the emulated mesh each
# What the reference runs, and the loop variable of the tests.
_STEP = {"decode": "step", "prefill": "prompt", SHORT: "prompt"}


def module_test_files(program: Program, root: Unit, writer: Writer, render: Callable[..., str]) -> dict[str, str]:
    """Files of tests/modules and tests/model by name."""
    representatives = [u for u in root.children if layer_of(u.path) == u.path]
    decode = program.decode
    module = program.plan.capture.module
    border = border_of(program.plan.capture.graph)
    firsts = [int(u.path.rsplit(".", 1)[1]) for u in representatives]
    routers = _routers(program.plan.capture.graph)
    sizes = sizes_of_scores(program.plan.capture, SCORES_OF_MIXTURES if routers else SCORES)
    layers = _layers(program.plan.capture, firsts, bool(routers))
    cache = next(t for v, t in decode.tensors.items() if decode.states.get(v) == "layer")
    done: list[tuple[str, ...]] = []  # class, and what it is built with
    by_file: dict[str, list[_Test]] = {}
    for unit in root.tree()[:-1]:  # the model has its own tests
        built = (unit.class_name, *(writer.given(unit, name) for name in unit.arguments))
        if built not in done and not _unlike_module(unit) and "sample" not in unit.bodies:
            done.append(built)
            number = sum(name == unit.class_name for name, *_ in done)
            tests = [_Test(program, root, writer, unit, mode, number) for mode in unit.bodies]
            by_file.setdefault(unit.file, []).extend(tests)
    # A test's context says what it feeds, which `computed` then holds.
    contexts = {file: [test.context() for test in tests] for file, tests in by_file.items()}
    key_positions = _by_layer(program.plan, "positions")
    files = {
        "tests/modules/__init__.py": "",
        "tests/model/__init__.py": "",
        "tests/float32.py": render("float32.py.j2"),
        "tests/reference.py": render(
            "reference.py.j2",
            border=border,
            layers=layers,
            of_depth=_of_depth(program.plan.capture, layers),
            own_attention=program.plan.capture.own_attention,
            own_positions=program.plan.capture.own_positions,
            chunked=program.plan.capture.config.get("attention_chunk_size") is not None,
            repeated=_repeated(program.plan.capture.graph),
            unlike_caches=_unlike_caches(program.plan.capture.graph),
            cache=cache,
            sizes=_within(sizes, _until_a_choice(routers, layers)),
            cache_orders=_by_layer(program.plan, "orders"),
            key_positions=key_positions,
            several_inputs=any(len(test.computed) > 1 for tests in by_file.values() for test in tests),
            expanded_from=_expanded_from(program.plan),
            routers=routers,
            weighed_inputs=_weigh_inputs(program.plan.capture.graph),
            model_class=module.class_name if module else None,
        ),
        "tests/model/test_model.py": render(
            "model_test.py.j2",
            class_name=root.class_name,
            placed=_placed(root, program),
            cache_dtype=cache.dtype,
            key_positions=key_positions,
            routers=routers,
            border=border,
        ),
    }
    if program.sampling is not None:  # else there is no loop
        files["tests/model/test_trace.py"] = render("trace_test.py.j2", class_name=root.class_name, routers=routers)
    for file, found in contexts.items():
        imports = sorted({pair for context in found for pair in context["imports"]})
        files[f"tests/modules/test_{file}.py"] = render(
            "module_test.py.j2", tests=found, imports=imports, file=file, border=border
        )
    return files


def _placed(root: Unit, program: Program) -> dict[str, dict[str, str]]:
    """Types of the tensors that each class holds, by attribute."""
    found: dict[str, dict[str, str]] = {}
    parameters = program.parameters
    turns = ("quarter_turn", "quarter_turns")
    types = {key: "bfloat16" if p.transform in turns else p.tensor.dtype for key, p in parameters.items()}
    for unit in root.tree():
        held = [k for k in unit.parameters if not parameters[k].resource or parameters[k].transform in turns]
        if held and "sample" not in unit.bodies:
            names = {attribute_of(key, unit, parameters): key for key in held}
            found[unit.class_name] = {name: types[key] for name, key in names.items()}
    return found


def _layers(capture: Capture, firsts: list[int], mixture: bool) -> int:
    """How many layers the tests hold: those up to the last of `firsts`, the first layer of each kind, and two of one kind.

    Layers that are all of their own kind show no mistake in a layer's index, such as the first layer's weights or cache for all. Layers of
    `LARGE` parameters, and mixtures, whose choices rounding changes for all that follows, get no second of a kind: the lines that
    place and call layers are those of every other model. All layers
    where the model's configuration takes no other number of them.
    """
    from transformers import AutoConfig

    every = 1 + max(int(layer.rsplit(".", 1)[1]) for layer in map(layer_of, capture.modules) if layer)
    size = sum(spec.numel for name, spec in capture.parameter_specs.items() if layer_of(name))
    two_of_a_kind = len(firsts) + 1 if size < LARGE * every and not mixture else 0
    enough = min(every, max(1 + max(firsts), two_of_a_kind))
    try:
        if capture.module is None:
            AutoConfig.for_model(**_first_layers(capture.config, enough))
        return enough
    except Exception:
        return every


def _until_a_choice(routers: dict[str, Any], layers: int) -> int:
    """How many layers attend before any token has chosen experts: where rounding changes a choice, sharp attention would carry it on to others."""
    return min([layers, *(1 + int((layer_of(experts) or "0").rsplit(".", 1)[-1]) for experts in routers)])


def _within(sizes: Sizes, layers: int) -> Sizes:
    """Those of the first `layers`."""

    def kept(named: dict[str, Any]) -> dict[str, Any]:
        return {name: size for name, size in named.items() if int((layer_of(name) or "0").rsplit(".", 1)[-1]) < layers}

    keys = {layer: size for layer, size in sizes.keys.items() if layer < layers}
    return Sizes(kept(sizes.matrices), kept(sizes.vectors), keys)


def _first_layers(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The configuration of a model with the first `layers` of one's own only."""
    kinds = {"layer_types": config["layer_types"][:layers]} if config.get("layer_types") else {}
    return {**config, **kinds, "num_hidden_layers": layers}


def _unlike_caches(graph: Graph) -> bool:
    """Whether layers, or keys and values, differ in their heads or in the columns of these."""
    updates = [op for op in graph.ops if op.name == "update_cache"]
    columns = [{order[0] for order in op.attrs.get("orders", ()) if order} for op in updates]  # before zeros are added
    return len({graph.specs[v].shape for op in updates for v in op.outputs}) > 1 or any(len(c) > 1 for c in columns)


def _repeated(graph: Graph) -> int:
    """How often the model repeats each head of its caches, which ours hold once (see recognise/repeated_heads.py)."""
    return max(op.attrs.get("repeated", 1) for op in graph.ops if op.name == "update_cache")


def _routers(graph: Graph) -> dict[str, tuple[str, str, int]]:
    """Every module of experts -> the block that chooses among them, the weight it does so with, how many there are; of equal layers too."""
    producers = graph.producers()
    found: dict[str, tuple[str, str, int]] = {}
    for op in graph.ops:
        if op.name in _WEIGH:
            spread = producers[op.args[-1]]
            router = producers[spread.args[2]]
            weight = graph.parameters[router.args[1]]
            block = common_module([op.module.rpartition(".")[0], router.module, spread.module])
            if block == layer_of(block):  # experts beside an MLP: of the layer only the router runs again
                block = spread.module
            found[op.module] = block, weight, spread.attrs["experts"]
    for op in graph.ops:
        if op.name == "layer":
            like, own = f"{op.attrs['like']}.", f"{op.module}."
            for experts, (block, weight, count) in list(found.items()):
                if experts.startswith(like):
                    found[own + experts[len(like) :]] = own + block[len(like) :], own + weight[len(like) :], count
    return found


def _chosen_in(graph: Graph) -> dict[str, str]:
    """The modules whose last step is a choice of experts -> the experts."""
    producers = graph.producers()
    return {producers[op.args[-1]].module: op.module for op in graph.ops if op.name in _WEIGH}


def _weigh_inputs(graph: Graph) -> bool:
    """Whether experts are called with what they read, weighed, in place of index and weights."""
    return any(op.name == "scale_both_by_routing" for op in graph.ops)


def _by_layer(plan: Plan, name: str) -> dict[int, Any]:
    """What an attribute of the caches' updates says, by layer: `orders` of columns where they are not the model's (see
    recognise/rotary.py), the table of `positions` in keys (alibi.py)."""
    found = {
        layer_of(op.module): op.attrs[name] for op in plan.graph.ops if op.name == "update_cache" and name in op.attrs
    }
    values = {int(layer.rsplit(".", 1)[1]): value for layer, value in found.items() if layer}
    folded = [op.attrs for op in plan.capture.graph.ops if op.name == "layer"]
    return values | {attrs["index"]: found[attrs["like"]] for attrs in folded if attrs["like"] in found}


def _of_depth(capture: Capture, layers: int) -> dict[str, dict[str, float]]:
    """Numbers of modules that depend on how many layers the model has, as residual scales may: those of the whole model.

    By path, of the modules of a model with the first `layers`. Not of a model class of the user's own.
    """
    from transformers import AutoConfig

    infos = capture.modules
    if capture.module:
        return {}
    config = AutoConfig.for_model(**_first_layers(capture.config, layers))
    if config.num_hidden_layers == len({layer_of(path) for path in infos} - {None}):
        return {}
    found = {}
    for path, module in build_model(config, own_attention=capture.own_attention).named_modules():
        whole = infos[path].numbers if path in infos else {}
        numbers = numbers_of(module)
        found[path] = {name: value for name, value in whole.items() if numbers.get(name, value) != value}
    return {path: numbers for path, numbers in found.items() if numbers}


def _expanded_from(plan: Plan) -> tuple | None:
    """What the model caches where that is less than keys and values: see capture/expanded.py."""
    return next((op.attrs["expanded_from"] for op in plan.graph.ops if "expanded_from" in op.attrs), None)


def _unlike_module(unit: Unit) -> bool:
    """Whether the unit gives tables with more columns or in another order than the module's, or the tables of several runs of the module.

    The attention's test covers these.
    """
    tables = [call.op.attrs for call in unit.all_calls() if call.op.name == "position_table"]
    return any(
        "order" in attrs or "doubled" in attrs or "factor" in attrs or re.search(r"_\d+$", attrs["stem"])
        for attrs in tables
    )


class _Test:
    """Statements of one test: build the module, and in every step feed it what Hugging Face's module got."""

    def __init__(self, program: Program, root: Unit, writer: Writer, unit: Unit, mode: str, number: int):
        self.program, self.root, self.writer, self.unit, self.mode = program, root, writer, unit, mode
        self.lowered, self.plan = program.modes[mode], program.plans[mode]
        self.step = _STEP[mode]
        self.number = f"_{number}" if number > 1 else ""  # of the class built with other arguments
        self.imports = {(unit.file, unit.class_name)}
        members = (op for call in unit.bodies[mode].all_calls(mode) for op in call.op.members)
        places = {op.module for op in members if op.name == "scatter_routing"}
        self.routers = [experts for place, experts in _chosen_in(program.plan.capture.graph).items() if place in places]
        self.build = [f"module = {writer.construct(unit)}"]
        self.feed: list[str] = []
        self.names = writer.arguments(unit, mode)
        self.adds = self._adds()
        self.norm = self._norm()
        self.computed: list[str] = []  # inputs that other modules compute, in the order of the module's arguments

    def context(self) -> dict[str, Any]:
        """What the template needs."""
        body = self.unit.bodies[self.mode]
        names = self.names
        caches = [v for v in body.inputs if self.lowered.states.get(v) == "layer"]
        if caches:
            layer = layer_of(self.unit.path) or ""
            index = int(layer.rsplit(".", 1)[1]) if layer else 0
            held = ", ".join(names[v] for v in caches)
            self.build.append(f"{held} = reference.kv_cache(mesh_device, {index})")
        if self.norm is not None or self.adds:
            given = f"{self.step}.before[{self.unit.path!r}]"
            small = given if self.norm is None else f"reference.with_small_rows({given}, {self.norm})"
            self.feed.append(f"given = {small}")
        for value in body.inputs:
            if value not in caches:
                self._feed(value)
        if self.routers:
            self.feed.append(f"kept = reference.decided({self.step}, {self.routers!r}, {self._margin()})")
        beside = self.program.plan.target.prefetching and self.mode == "decode" and layer_of(self.unit.path) is not None
        if beside:
            weights = "[module.prefetched()]" if prefetched(self.unit) else "[]"
            self.build.append(
                f"prefetcher = Prefetcher(mesh_device, weights.resources.global_circular_buffer(), {weights})"
            )
        outputs = [(f"output_{n}" if n else "output", v) for n, v in enumerate(body.outputs)]
        results = ", ".join(n for n, _ in outputs)
        arguments = ", ".join(names[v] for v in body.inputs)
        return {
            "name": f"{snake(self.unit.class_name)}_{self.mode}{self.number}",
            "path": self.unit.path,
            "routers": bool(self.routers),
            "beside": beside,
            "imports": self.imports,
            "build": self.build,
            "step": self.step,
            "steps": self._steps(),
            "feed": self.feed,
            "run": f"{results} = module.{self.mode}_forward({arguments})",
            "types": [f"assert {name}.dtype == ttnn.{self.lowered.tensors[value].dtype}" for name, value in outputs],
            "compare": [self._compare(name, value, index) for index, (name, value) in enumerate(outputs)]
            + self._changed(),
        }

    def _steps(self) -> str:
        """What the test goes through: the steps, or the prompts whose chunks the mode serves."""
        lengths = tuple(self.program.by_mode.get(self.mode, ()))
        served = f"reference.prompts_of({lengths})" if len(lengths) < len(self.program.lengths) else "reference.prompts"
        return served if lengths else f"reference.{self.step}s"

    def _feed(self, value: str) -> None:
        """Statements that make one input."""
        name = self.names[value]
        table = self._table(value)
        if value in self.lowered.states or value in self.lowered.inputs:
            self.feed.append(f"{name} = {self._prepared(value)}")
        elif table is not None:
            self._feed_table(table)
        else:
            tensor = self.lowered.tensors[value]
            memory = self.writer.configs.memory(self.lowered, value)
            host = self._host(self._given(value))
            if tensor.partial_axes:  # the chips' shares, which may as well be equal
                host += f" / {math.prod(self.plan.target.mesh_shape[axis] for axis in tensor.partial_axes)}"
            self.feed.append(
                f"{name} = to_mesh(mesh_device, {host}, {tensor.mesh_dims}, ttnn.{tensor.dtype}, memory_config={memory})"
            )

    def _given(self, value: str) -> str:
        """What Hugging Face's module got for an input that another module computes: its hidden state, or weights of experts."""
        for call in self.unit.bodies[self.mode].all_calls(self.mode):
            if call.op.name == "scale_by_routing" and call.op.args[1] == value.split(".")[0]:
                return f"{self.step}.with_users(reference.routing({self.step}, {call.op.module!r}))"
        self.computed.append(value)
        if self.adds:  # any two numbers whose sum is what the module got
            return "given.roll(1, -1)" if len(self.computed) == 1 else "(given - given.roll(1, -1))"
        if self.norm is not None:
            return "given"
        number = len(self.computed) - 1
        return f"{self.step}.before[{self.unit.path!r}{f', {number}' if number else ''}]"

    def _host(self, hidden: str) -> str:
        if self.mode == "decode":
            return f"decode_hidden({hidden})"
        return f"prompt.last_tile({hidden})" if self._behind_layers() else f"prefill_hidden({hidden}, prompt.length)"

    def _table(self, value: str) -> Unit | None:
        """The unit that makes `value` from positions alone."""
        for unit in self.root.children:
            body = unit.bodies.get(self.mode)
            made = body is not None and value in body.outputs and all(v in self.lowered.inputs for v in body.inputs)
            if made and all(call.op.name == "position_table" for call in unit.all_calls()):
                return unit
        return None

    def _feed_table(self, table: Unit) -> None:
        if (table.file, table.class_name) in self.imports:
            return
        self.imports.add((table.file, table.class_name))
        body = table.bodies[self.mode]
        names = self.writer.preferred[self.mode]
        self.build.append(f"{table.attribute} = {self.writer.construct(table)}")
        inputs = ", ".join(self._prepared(v) for v in body.inputs)
        results = ", ".join(self.names.get(o, names[o]) for o in body.outputs)
        self.feed.append(f"{results} = {table.attribute}.{self.mode}_forward({inputs})")

    def _compare(self, name: str, value: str, index: int) -> str:
        expected = f"{self.step}.after[{self.unit.path!r}][{index}]"
        if self._is_router():
            expected = f"reference.routing({self.step}, {self.routers[0]!r})"
        if self.norm is not None:
            expected = f"reference.output({self.unit.path!r}, given)"
        tensor = self.lowered.tensors[value]
        summed = f", {tensor.partial_axes}" if tensor.partial_axes else ""
        found = f"from_mesh(mesh_device, {name}, {tensor.mesh_dims}{summed})"
        if value in self.plan.placements and self.plan.fill(value):
            found += f"[..., : {self.plan.graph.specs[value].shape[-1]}]"
        if self.mode == "decode":
            order = self.program.plan.orders[value.split(".")[0]]
            users = ", ".join([":"] * order.index(0) + [": cfg.BATCH"])
            if self.routers:
                return f"assert_pcc({found}[{users}][:, :, kept], {expected}[kept], cfg.PCC, each_row=False)"
            return f"assert_pcc({found}[{users}], {expected}, cfg.PCC)"
        if self.routers:
            rows = "[kept]" if self._is_router() else "[:, kept]"
            return f"assert_pcc({found}[:, :, : prompt.count][:, :, kept], {expected}{rows}, cfg.PCC, each_row=False)"
        if self._behind_layers():
            expected = f"prompt.last_tile({expected})"
            return f"assert_pcc({found}[:, :, : prompt.rows], {expected}[:, :, : prompt.rows], cfg.PCC)"
        return f"assert_pcc({found}[:, :, : prompt.count], {expected}, cfg.PCC)"

    def _adds(self) -> bool:
        """Whether the sum that Hugging Face's module gets is taken inside: fuse/ joined it to the unit's first operation."""
        members = [op for call in self.unit.bodies[self.mode].all_calls(self.mode) for op in call.op.members]
        return any(op.name == "add" and not lies_in(op.module, self.unit.path) for op in members)

    def _changed(self) -> list[str]:
        """Inputs that the unit writes over hold the sum then; a unit that holds the addition, too, was given none."""
        if not self.adds:
            return []
        found = []
        for value in self.unit.bodies[self.mode].changed(self.mode):
            tensor = self.lowered.tensors[value]
            read = f"from_mesh(mesh_device, {self.names[value]}, {tensor.mesh_dims})[:, :, : cfg.BATCH]"
            found.append(f"assert_pcc({read}, {self._host('given')}[:, :, : cfg.BATCH], cfg.PCC)")
        return found

    def _norm(self) -> float | None:
        """The epsilon of a unit that is a norm of one input."""
        epsilons = [c.op.attrs["eps"] for c in self.unit.bodies[self.mode].all_calls(self.mode) if "eps" in c.op.attrs]
        inputs = 2 if self.adds else 1
        alone = self.unit.file == ROLE_FILES["norm"] and len(self.unit.bodies[self.mode].inputs) == inputs
        return epsilons[0] if alone and epsilons else None

    def _is_router(self) -> bool:
        """Whether the unit only chooses experts: not where experts read what is weighed, which take the weights of all from it."""
        graph = self.program.plan.capture.graph
        return (
            self.unit.path in _chosen_in(graph)
            and self.unit.file == ROLE_FILES["router_logits"]
            and not _weigh_inputs(graph)
        )

    def _margin(self) -> str:
        """How far the numbers that a router gets may be off: where the test feeds it itself, they are rounded only."""
        fed = all(call.op.name != "attention" for call in self.unit.bodies[self.mode].all_calls(self.mode))
        return "ROUNDING" if fed else "NOISE"

    def _behind_layers(self) -> bool:
        """Whether the unit runs on the last tile of rows only."""
        items = self.root.bodies[self.mode].items
        tiles = [i for i, item in enumerate(items) if isinstance(item, Call) and item.op.name == "last_tile"]
        return self.unit in items and bool(tiles) and items.index(self.unit) > tiles[0]

    def _prepared(self, value: str) -> str:
        """The expression of model.py that prepares an input, over what the test has."""
        text = prepare(value, self.lowered, prefix="")
        known = {
            "page_table": "reference.page_table",
            "user": "reference.user",
            "start": "0",
            "end": "prompt.count",
            "cached": "0",
            "prompt_len": "prompt.count",
        }
        known |= {name: f"{self.step}.{name}" for name in ("tokens", "positions", "length")}
        return re.sub(
            r"(?<=[(\[ ])(tokens|positions|page_table|user|start|length|end|cached|prompt_len)\b",
            lambda m: known[m[1]],
            text,
        )


def snake(name: str) -> str:
    """`Qwen3DecoderLayer` -> `qwen3_decoder_layer`"""
    return "".join(
        f"_{c.lower()}" if c.isupper() and i and not name[i - 1].isupper() else c.lower() for i, c in enumerate(name)
    )
