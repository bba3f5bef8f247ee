"""report/index.html and the JSON it is made of: complete, self-contained, safe whatever a model is called, honest about what was run."""

import base64
import copy
import hashlib
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import compiled, package

from fx2ttnn.errors import UserError
from fx2ttnn.names import lies_in
from fx2ttnn.profile.predicted import predicted
from fx2ttnn.report import data, verified
from fx2ttnn.report.cases import cases
from fx2ttnn.report.costs import step
from fx2ttnn.report.diff import diff
from fx2ttnn.report.layout import Box, layout
from fx2ttnn.report.page import page, write_page
from fx2ttnn.report.table import case_of

PACKAGES = [("qwen3", "n150"), ("qwen2", "n300"), ("qwen3_galaxy", "galaxy")]
every_package = pytest.mark.parametrize(("model", "target"), PACKAGES)
HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script>\"'><svg onload=alert(3)>"


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.scripts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        (self.scripts if self.lasttag == "script" and "addEventListener" in data else self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def nodes(report, mode="decode"):
    return [(part, node) for part in report.graph["modes"][mode]["parts"] for node in part["nodes"]]


@pytest.fixture
def report(tmp_path):
    """Of a package of its own, which a test may change."""
    shutil.copytree(package("qwen3_galaxy", "galaxy"), tmp_path / "package")
    return data.read(tmp_path / "package")


# -- graph.json and profile.json -------------------------------------------------------------------------------------


@every_package
def test_the_graph_holds_every_planned_operation_and_every_call(model, target):
    found = compiled(model, target)
    report = data.read(package(model, target))
    assert [node["id"] for _, node in nodes(report)] == [op.outputs[0] for op in found.plan.graph.ops]
    calls = [call["ttnn"] for _, node in nodes(report) for call in node["calls"]]
    assert calls == [call.function for call in found.lowered.calls]
    longest = found.program.lengths[max(found.program.lengths)]
    assert sum(len(node["calls"]) for _, node in nodes(report, "prefill")) == len(longest.calls)


@every_package
def test_predicted_seconds_are_those_of_the_calls(model, target):
    found, mode = compiled(model, target), data.read(package(model, target)).graph["modes"]["decode"]
    total = predicted(found.plan, found.lowered).seconds
    assert mode["loads"][-1]["step_seconds"] == total
    assert mode["step_seconds"] == pytest.approx(total)
    assert sum(part["count"] * part["seconds"] for part in mode["parts"]) == pytest.approx(total)
    assert step(mode).seconds == pytest.approx(total)
    assert all(value >= 0 for _, node in nodes(data.read(package(model, target))) for value in node["taken"].values())


@every_package
@pytest.mark.parametrize("mode", ["decode", "prefill"])
def test_each_call_names_its_emitted_lines_and_its_test(model, target, mode):
    """The lines hold the call, and the case of the test file says that it is used there, with that rule."""
    folder = package(model, target)
    report, found = data.read(folder), cases(folder)
    for _, node in nodes(report, mode):
        for call in node["calls"]:
            if not node["module"]:
                continue  # the model's own calls are not in provenance.json
            file, first, last = call["statement"]
            lines = (folder / file).read_text().splitlines()[first - 1 : last]
            assert call["ttnn"].rsplit(".", 1)[1] in "\n".join(lines), call
            case = case_of(call, found)
            # what is joined of several operations belongs to the innermost module, and stands where the last of them stood
            assert any(lies_in(used, node["module"]) for used in case.used), (call, case)
            above = (folder / case.file).read_text().splitlines()[case.first_line - 2]
            assert above.strip() == f"# {call['rule']}"


def test_modules_that_share_a_class_share_its_lines():
    report = data.read(package("qwen3"))
    lines = {
        node["module"]: [call["statement"] for call in node["calls"]]
        for _, node in nodes(report)
        if node["op"] == "rms_norm"
    }
    assert lines["model.norm"] == lines["model.layers.0.post_attention_layernorm"]


def test_parts_are_what_is_around_the_layers_and_the_layers():
    parts = data.read(package("qwen3_galaxy", "galaxy")).graph["modes"]["decode"]["parts"]
    assert [(part["name"], part["count"]) for part in parts] == [
        ("before the layers", 1),
        ("model.layers.0", 64),
        ("behind the layers", 1),
    ]


def test_the_profile_names_the_source_of_every_figure():
    profiled = data.read(package("qwen3")).profile
    figures = [*profiled["machine"], *profiled["modes"]["decode"]["predicted"]["step"]["rests_on"]]
    assert figures
    assert all(figure["source"] and figure["source"] != "source not given" for figure in figures)


def test_what_is_no_report_is_refused_with_words(tmp_path):
    with pytest.raises(UserError, match="no report/graph.json"):
        data.read(tmp_path)
    shutil.copytree(package("qwen3") / "report", tmp_path / "report")
    (tmp_path / "report" / "check.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*check.json"):
        data.read(tmp_path)
    (tmp_path / "report" / "graph.json").write_text('{"format": 0}')
    with pytest.raises(UserError, match="another version"):
        data.read(tmp_path)


# -- the page --------------------------------------------------------------------------------------------------------


@every_package
def test_the_page_names_every_operation_rule_and_test(model, target):
    folder = package(model, target)
    text = Page(page(data.read(folder))).text
    for case in (case for found in cases(folder).values() for case in found):
        assert " ".join(case.name.split()) in text
    shown = [row for row in data.read(folder).provenance if not row["mode"].startswith("short_")]  # like long chunks'
    for row in shown:
        assert row["rule"] in text
        assert f"{row['file']}:{row['lines'][0]}" in text
    for words in ("predicted", "not a measurement", "bytes/s reached by a DRAM sharded matmul", "100 %"):
        assert words in text


def test_the_same_report_gives_the_same_bytes(report):
    first = write_page(report).read_bytes()
    assert write_page(data.read(report.package)).read_bytes() == first
    assert len(first) < 1_500_000


def test_nothing_comes_from_outside():
    """No tag loads anything, and the policy allows one script: ours."""
    found = Page(page(data.read(package("qwen3"))))
    assert {tag for tag, _ in found.tags} & {"img", "link", "iframe", "object", "image", "use", "base"} == set()
    assert not [attrs for _, attrs in found.tags if "src" in attrs]
    assert all(attrs["href"].startswith("#") for tag, attrs in found.tags if tag == "a")
    (script,) = found.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [attrs["content"] for _, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert "@import" not in page(data.read(package("qwen3")))


def test_markup_in_a_model_stays_text(report):
    """Names and reasons that are markup add no tag and no handler."""
    clean = Page(page(report, report))
    bad = copy.deepcopy(report)
    keep = {"model", "module", "op", "id", "value", "why", "rule", "ttnn", "source", "name", "memory"}

    def poison(value):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, str) and key in keep:
                value[key] = HOSTILE + item
            elif isinstance(item, dict | list):
                poison(item)

    poison(bad.graph)
    poison(bad.coverage)
    for found in (Page(page(bad, report)), Page(page(report, bad))):
        assert {tag for tag, _ in found.tags} <= {tag for tag, _ in clean.tags} | {"small", "b"}
        assert len(found.scripts) == 1
        assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]
        assert HOSTILE in found.text


def test_unsupported_operations_are_in_the_picture_and_in_the_table(tmp_path):
    found = compiled("unsupported")
    found.coverage.write(tmp_path / "report")
    data.write(tmp_path, found.program)
    read = data.read(tmp_path)
    text = page(read)
    assert text.count("box k-unsupported") >= len(found.lowered.unsupported) > 0
    for op, why in found.lowered.unsupported:
        assert op.name in Page(text).text
        assert " ".join(why.split()) in Page(text).text


# -- what was verified -----------------------------------------------------------------------------------------------


def states(report):
    return [v.state for v in verified.verifications(report)]


def test_without_a_run_nothing_is_claimed(report):
    assert report.check is None
    assert states(report) == ["not run"] * 4
    text = Page(page(report)).text
    assert "not checked" in text
    assert "badge accepted" not in page(report)


def test_the_check_is_told_as_it_came_out(report):
    check = json.loads(EXAMPLE_CHECK)
    accepted = replace(report, check=check)
    assert states(accepted)[0] == "yes"
    finding = {"kind": "refusal", "message": "no", "file": "mlp.py", "line": 1, "call": None, "rule": None}
    refused = replace(report, check={**check, "ok": False, "statement": "not accepted", "findings": [finding]})
    assert states(refused)[0] == "no"
    assert verified.call_status(refused, "decode", ["mlp.py", 1, 3]) == "refusal"
    assert verified.call_status(accepted, "decode", ["mlp.py", 1, 3]) == "accepted"
    assert verified.call_status(accepted, "prefill", ["mlp.py", 1, 3]) == "not reached"
    assert "no" in Page(page(refused)).text


EXAMPLE_CHECK = """{"ok": true, "statement": "accepted by ttnn's host code on a mock galaxy; not run on silicon",
 "dram_bytes": 12000000000, "layers": [], "step": null, "prefill": {}, "dram": null, "findings": [],
 "modules": [{"file": "mlp.py", "class_name": "MLP", "method": "decode_forward", "tokens": 1, "status": "accepted", "findings": []}]}"""

PASSED = {f"tests/{kind}/test_x.py::test_x[a]": "passed" for kind in ("ops", "modules", "model")}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ({"emulator": PASSED}, ["yes", "not run", "not run"]),
        ({"simulator": PASSED}, ["not run", "yes", "not run"]),
        ({"card": PASSED}, ["not run", "not run", "yes"]),
        ({"emulator": {"tests/ops/test_x.py::test_x[a]": "passed"}}, ["in part", "not run", "not run"]),
        ({"emulator": {**PASSED, "tests/ops/test_x.py::test_x[b]": "failed"}}, ["no", "not run", "not run"]),
        ({"emulator": {}}, ["not run", "not run", "not run"]),
    ],
)
def test_equal_and_ran_need_the_modules_and_the_models_tests(runs, expected, report):
    assert states(replace(report, tests={"runs": runs}))[1:] == expected


def test_what_the_simulator_refused_leaves_the_rest_in_part(report):
    runs = [{"test": test, "outcome": "passed", "pcc": 0.5, "difference": 0.25} for test in PASSED]
    done = replace(report, simulator={"runs": runs})
    assert states(done)[2] == "yes"
    refused = {
        "test": "tests/ops/test_x.py::test_x[b]",
        "outcome": "refused by the simulator",
        "pcc": None,
        "difference": None,
    }
    assert states(replace(report, simulator={"runs": [*runs, refused]}))[2] == "in part"
    assert verified.measured(done, "difference", "simulator") == dict.fromkeys(PASSED, 0.25)
    assert verified.measured(done, "pcc", "emulator") == {}


# -- differences -----------------------------------------------------------------------------------------------------


def test_a_report_does_not_differ_from_itself(report):
    assert diff(report, report).same
    assert "None: operations" in Page(page(report, report)).text


def test_another_target_differs_in_collectives_and_time():
    one, two = (data.read(package(model, target)) for model, target in [("qwen3_galaxy", "galaxy"), ("qwen3", "n150")])
    found = diff(one, two)
    changed = {change.what: (change.before, change.after) for change in found.totals}
    assert changed["target"] == ("galaxy, mesh 8x4", "n150, mesh 1x1")
    assert "decode: predicted step" in changed
    kinds = {(op.kind, op.op) for op in found.ops}
    assert ("removed", "all_reduce") in kinds
    assert ("removed", "all_gather") in kinds
    assert any(op.kind == "changed" and op.changes for op in found.ops)
    back = diff(two, one)
    assert {(op.module, op.op) for op in found.ops if op.kind == "added"} == {
        (op.module, op.op) for op in back.ops if op.kind == "removed"
    }


# -- the layout of a picture -----------------------------------------------------------------------------------------


@st.composite
def pictures(draw):
    """Boxes in order of execution, each reading some of those before it."""
    count = draw(st.integers(1, 40))
    boxes = [
        Box(
            f"b{n}",
            draw(st.sampled_from([80, 272])),
            draw(st.sampled_from([40, 64])),
            draw(st.sampled_from(["", "a", "b"])),
        )
        for n in range(count)
    ]
    edges = [(f"b{m}", f"b{n}") for n in range(1, count) for m in draw(st.sets(st.integers(0, n - 1), max_size=3))]
    return boxes, edges


@given(pictures())
@settings(max_examples=60, deadline=None)
def test_boxes_do_not_overlap_and_stand_below_what_they_read(picture):
    boxes, edges = picture
    found = layout(boxes, edges)
    assert [p.box for p in found.boxes] == boxes
    for n, one in enumerate(found.boxes):
        assert one.x >= 0 and one.x + one.box.width <= found.width
        assert one.y >= 0 and one.bottom <= found.height
        for two in found.boxes[n + 1 :]:
            apart = (
                one.x + one.box.width <= two.x
                or two.x + two.box.width <= one.x
                or one.bottom <= two.y
                or two.bottom <= one.y
            )
            assert apart, (one, two)
    at = {p.box.key: p for p in found.boxes}
    assert {(line.start, line.end) for line in found.lines} == set(edges)
    for line in found.lines:
        assert line.points[0] == (at[line.start].middle, at[line.start].bottom)
        assert line.points[-1] == (at[line.end].middle, at[line.end].y)
