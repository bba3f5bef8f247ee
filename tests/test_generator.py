"""Sampling through the rule tables, the calls that a generator takes and refuses, and the command that runs a package."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch

from fx2ttnn import targets
from fx2ttnn.errors import UserError
from fx2ttnn.lower.sampling import lower_sampling
from fx2ttnn.lower.values import Lowered, Memory, Tensor
from fx2ttnn.plan import Plan
from fx2ttnn.precision import PRECISIONS
from fx2ttnn.profile.predicted import chunks as predicted_chunks
from fx2ttnn.run import run


class _Capture:
    """What the engine asks of a capture."""

    max_seq_len, batch, users = 128, 32, 32


def lowered(target: str, width: int, axes: tuple) -> Lowered:
    """Sampling from logits [1, 1, 32, width] of a chip."""
    found = targets.load(target)
    plan = Plan(_Capture(), found, PRECISIONS["performance"], "decode", None, {}, {}, {}, (), None, {}, {})  # type: ignore[arg-type]
    logits = Tensor("logits", (1, 1, 32, width), "bfloat16", "TILE", Memory("DRAM"), axes)
    decode = Lowered((), {"logits": logits}, {}, {}, (), ("logits",), {})
    return lower_sampling(plan, decode)


def functions(graph: Lowered) -> list[str]:
    assert not graph.unsupported
    return [call.function.removeprefix("ttnn.") for call in graph.calls]


def test_the_whole_vocabulary_on_every_chip() -> None:
    assert functions(lowered("n150", 32768, ("R", "R"))) == ["topk", "typecast", "to_layout", "sampling"]


IN_PARTS = ["pad", "reshape", "topk", "typecast", "reshape", "reshape"]


def test_a_vocabulary_wider_than_topk_splits_over_cores_is_taken_in_parts() -> None:
    """On one core topk of 49152 columns takes milliseconds."""
    graph = lowered("n150", 49152, ("R", "R"))
    assert functions(graph) == [*IN_PARTS, "add", "to_layout", "sampling"]
    topk = next(call for call in graph.calls if call.function == "ttnn.topk")
    assert graph.tensors[topk.args[0]].shape == (1, 1, 64, 32768)
    (parameter,) = graph.parameters.values()
    assert parameter.arguments == {"width": 49152, "parts": 2, "part": 32768}


@pytest.mark.parametrize(("width", "candidates"), [(151936, 256), (70000, 128), (262144, 256)])
def test_candidates_of_parts_are_a_power_of_two_of_tiles(width: int, candidates: int) -> None:
    graph = lowered("n150", width, ("R", "R"))
    parts = -(-width // 32768)
    filled_up = [] if parts == candidates // 32 else ["pad", "pad"]
    assert functions(graph) == [*IN_PARTS, *filled_up, "add", "to_layout", "sampling"]
    assert graph.tensors[graph.calls[-1].args[0]].width == candidates
    (added,) = [call for call in graph.calls if call.function == "ttnn.add"]
    assert [graph.tensors[ref].dtype for ref in added.args] == ["uint32", "uint32"]


def test_one_axis() -> None:
    graph = lowered("t3k", 18992, ("R", 3))
    assert functions(graph) == ["pad", "topk", "typecast", "add", "all_gather", "all_gather", "to_layout", "sampling"]
    assert graph.tensors[graph.calls[0].outputs[0]].width == 32768
    (parameter,) = graph.parameters.values()
    assert (parameter.transform, parameter.arguments, parameter.tensor.mesh_dims) == (
        "first_token",
        {"width": 18992},
        (None, 3),
    )


def test_both_axes() -> None:
    graph = lowered("galaxy", 4748, (3, 3))
    assert functions(graph) == ["pad", "topk", "typecast", "add", *["all_gather"] * 4, "to_layout", "sampling"]
    gathers = [call for call in graph.calls if call.function == "ttnn.all_gather"]
    assert [call.kwargs["cluster_axis"] for call in gathers] == [1, 1, 0, 0]
    assert [graph.tensors[call.outputs[0]].width for call in gathers] == [128, 128, 1024, 1024]


@pytest.mark.parametrize("width", [16, 33, 1024, 4748, 32768])
def test_candidates_are_a_power_of_two_of_tiles(width: int) -> None:
    graph = lowered("galaxy", width, (3, "R"))
    values = graph.tensors[graph.calls[-1].args[0]]
    assert values.width == 256
    topk = next(call for call in graph.calls if call.function == "ttnn.topk")
    assert graph.tensors[topk.args[0]].width >= min(64, width)


class Untouched:
    """In place of a model and its loop: a call that is refused has asked neither for anything but how many pages a cache has."""

    pages = 128

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


@pytest.fixture(scope="module")
def package() -> SimpleNamespace:
    """Modules of a package: 32 users of 256 tokens, 4 pages of 64 for each, 512 token ids."""
    name, folder = "package_of_test_generator", tiny.package("qwen3")
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec and spec.loader
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return SimpleNamespace(
        **{n: importlib.import_module(f"{name}.{n}") for n in ("generator", "inputs", "decode_loop")}
    )


@pytest.fixture
def generator(package: SimpleNamespace) -> Any:
    made = object.__new__(package.generator.Generator)
    made.tokenizer, made.stop_tokens, made.model, made.loop = None, frozenset(), Untouched(), Untouched()
    return made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_lens": [0]}, "prompt 0 has 0 tokens; the cache takes 1 to 256"),
        ({"prompt_lens": [-1]}, "prompt 0 has 300 tokens, of which prompt_lens counts -1"),
        ({"prompt_lens": [301]}, "prompt 0 has 300 tokens, of which prompt_lens counts 301"),
        ({"prompt_lens": [257]}, "prompt 0 has 257 tokens; the cache takes 1 to 256"),
        ({"prompt_lens": []}, "there are no prompts"),
        ({"prompt_lens": [100, 100]}, "tokens has 1 entries for 2 prompts"),
        ({"tokens": torch.full((1, 300), 512)}, "outside the vocabulary of 512"),
        ({"start_pos": [101]}, "prompt 0 has 100 tokens; start_pos says that the cache holds 101 of them"),
        ({"start_pos": [-1]}, "start_pos says that the cache holds -1"),
        ({"start_pos": [0, 0]}, "start_pos has 2 entries for 1 prompts"),
        ({"empty_slots": [32]}, "prompt 0 becomes user 32; there are users 0 to 31"),
        ({"empty_slots": []}, "empty_slots has 0 entries for 1 prompts"),
        ({"page_table": [[0]]}, "the page table has 1 columns, 2 are needed"),
        ({"page_table": [[0, 1], [2, 3]]}, r"the page table is \[2, 2\], wanted is \[1 users, pages\]"),
        ({"page_table": [0, 1]}, r"the page table is \[2\]"),
        ({"page_table": [[0, -1]]}, "there are pages 0 to 127"),
        ({"page_table": [[0, 128]]}, "there are pages 0 to 127"),
    ],
)
def test_a_prompt_that_cannot_be_run(generator: Any, given: dict[str, Any], message: str) -> None:
    tokens, pages = torch.zeros(1, 300, dtype=torch.int32), torch.tensor([[0, 1]])
    call = {"tokens": tokens, "page_table": pages, "kv_cache": None, "prompt_lens": [100], **given}
    with pytest.raises(ValueError, match=message):
        generator.prefill_forward(call.pop("tokens"), **call)


@pytest.mark.parametrize(
    ("tokens", "start_pos", "page_table", "message"),
    [
        ([3] * 33, [0] * 33, [[0]] * 33, "tokens of 33 users; a step takes 1 to 32"),
        ([], [], [], "tokens of 0 users"),
        ([3, 4], [0], [[0], [1]], "start_pos has 1 entries for 2 users"),
        ([3], [256], [[0, 1, 2, 3, 4]], "positions are 0 to 255, or -1 for an idle user"),
        ([3], [-2], [[0]], "positions are 0 to 255"),
        ([512], [0], [[0]], "the vocabulary has 0 to 511"),
        ([3], [64], [[0]], "the page table has 1 columns, 2 are needed"),
        ([3], [64], [[0, -1]], "there are pages 0 to 127"),
        ([3], [0], [[0], [1]], "wanted is"),
    ],
)
def test_a_step_that_cannot_be_run(generator: Any, tokens: Any, start_pos: Any, page_table: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator.decode_forward(tokens, start_pos, page_table=page_table, kv_cache=None)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("hello", {}, "prompt 0 is a text, but there is no tokenizer: give token ids"),
        ([[3], "hello"], {}, "prompt 1 is a text"),
        ({"input_ids": [3]}, {}, "a text or a list of token ids, not dict"),
        ([[3], [None]], {}, "prompt 1 is neither a text nor a list of token ids"),
        ([[3], []], {}, "prompt 1 has 0 tokens"),
        ([], {}, "prompt 0 has 0 tokens"),
        ([512], {}, "outside the vocabulary"),
        ([[3], [4]], {"temperature": [1.0]}, "temperature has 1 entries for 2 prompts"),
        ([[3], [4]], {"next_input": [[5]]}, "next_input has 1 entries for 2 prompts"),
        ([3], {"top_k": 33}, "top_k 33 is outside 1 to 32; 0, -1 or None: the 32 best"),
        ([3], {"temperature": float("nan")}, "temperature nan is not 0 or more"),
    ],
)
def test_a_text_that_cannot_be_written(generator: Any, prompts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator.generate(prompts, 4, **options)


def test_prompts_of_every_kind(generator: Any) -> None:
    generator.tokenizer = lambda text: {"input_ids": [int(word) for word in text.split()]}
    for prompt in ([5, 6], (5, 6), torch.tensor([5, 6]), [torch.tensor(5), torch.tensor(6)], "5 6"):
        assert generator._token_ids(prompt) == ([[5, 6]], True)
    for prompts in (torch.tensor([[5, 6], [7, 8]]), [torch.tensor([5, 6]), [7, 8]], ["5 6", "7 8"], ["5 6", [7, 8]]):
        assert generator._token_ids(prompts) == ([[5, 6], [7, 8]], False)


def test_no_top_k(package: SimpleNamespace) -> None:
    for off in (None, 0, -1, 32):
        assert package.decode_loop.sampling_settings(1.0, top_k=off) == (32, 1.0, 1.0)


def test_pages_of_a_user(package: SimpleNamespace) -> None:
    """Columns behind a user's own pages do not matter, and need not be there; those of an idle user are 0."""
    counts = torch.tensor([0, 1, 64, 65, 200])
    wanted = [[0, 0, 0, 0], [5, 5, 5, 5], [5, 5, 5, 5], [5, 6, 6, 6], [5, 6, 7, 8]]
    for behind in (-1, 0, 1000):
        table = torch.tensor(
            [[behind] * 6, *([*row[:n], *[behind] * (6 - n)] for row, n in zip(wanted[1:], (1, 1, 2, 4), strict=True))]
        )
        package.inputs.check_pages(table, counts)
        assert package.inputs.own_pages(table, counts).tolist() == wanted
    assert package.inputs.own_pages(torch.tensor([[5]]), torch.tensor([7])).tolist() == [[5] * 4]


@pytest.mark.parametrize(
    ("start", "end", "cached", "pages"),
    [
        (0, 20, 0, [5, -1]),
        (0, 65, 0, [5, 6]),
        (0, 128, 64, [-1, 6]),
        (0, 128, 63, [5, 6]),
        (128, 150, 128, [7, -1]),
        (128, 256, 256, [-1, -1]),
    ],
)
def test_pages_that_a_chunk_writes(
    package: SimpleNamespace, start: int, end: int, cached: int, pages: list[int]
) -> None:
    table = torch.tensor([[5, 6, 7, 8]])
    assert package.inputs.pages_of_chunk(table, 0, start, 128, end, cached).tolist() == [pages]


def test_chunks_begin_where_they_can(package: SimpleNamespace) -> None:
    """At the multiple of a chunk before a start that is none; all of a prompt in the cache leaves the last chunk to run."""
    chunks = package.generator.chunks
    assert chunks(64, 200) == [(0, 128), (128, 128)]
    assert chunks(128, 200) == chunks(192, 200) == chunks(200, 200) == [(128, 128)]
    assert chunks(128, 128) == chunks(0, 1) == [(0, 128)]


def test_predicted_chunks_are_those_of_the_generator(package: SimpleNamespace) -> None:
    """By which the first token's time is told."""
    generator, lengths = package.generator, (128, 2048)
    before, generator.cfg.PREFILL_LENGTHS = generator.cfg.PREFILL_LENGTHS, lengths
    try:
        for count in (1, 128, 129, 1023, 1024, 2048, 3071, 5000):
            assert predicted_chunks(count, lengths) == generator.chunks(0, count)
    finally:
        generator.cfg.PREFILL_LENGTHS = before


def test_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no package"):
        run(tmp_path, tmp_path, [])
    for name in ("text_demo.py", "model_config.py"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="no checkpoint"):
        run(tmp_path, tmp_path / "absent", [])
    with pytest.raises(UserError, match="no tokenizer in .*: put the model's tokenizer.json"):
        run(tmp_path, tmp_path, [])


def save_checkpoint(folder: Path, drop: str = "") -> Path:
    """Random weights of the tiny model, without those whose name has `drop`, and a tokenizer of a word for each token."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    model = tiny.random_model(tiny.config_of("qwen3"))
    state = {n: t.contiguous().bfloat16() for n, t in model.state_dict().items() if not drop or drop not in n}
    save_file(state, folder / "model.safetensors")
    words = Tokenizer(WordLevel({f"w{n}": n for n in range(512)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)
    return folder


def run_text(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fx2ttnn", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_run(tmp_path: Path) -> None:
    """Text, and where it came from; the same seed gives the same."""
    checkpoint, package = save_checkpoint(tmp_path), tiny.package("qwen3")
    options = ("--prompt", "w5 w6", "--prompt", "w7", "--max-new-tokens", 4, "--temperature", 1, "--seed", 3)
    first, again = (run_text(package, "--weights", checkpoint, *options) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "backend: emulator" in first.stdout and "no measure of the hardware" in first.stdout
    assert "> w5 w6\nw" in first.stdout and "tokens/s/user" in first.stdout
    texts = [done.stdout.partition("\n> ")[2].partition("time to first token")[0] for done in (first, again)]
    assert texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("drop", "prompt", "options", "message"),
    [
        ("q_proj", "w1", (), "2 missing: model.layers.0.self_attn.q_proj.weight"),
        ("", "w1 " * 300, (), "a prompt has 300 tokens"),
        ("", "w1", ("--top-k", "40"), "top_k 40 is outside 1 to 32"),
        (
            None,
            "w1",
            (),
            "You need to have sentencepiece or tiktoken installed",
        ),  # the last line of transformers' message
    ],
)
def test_run_refuses_bad_input(tmp_path: Path, drop: str | None, prompt: str, options: tuple, message: str) -> None:
    """One message and exit code 2."""
    if drop is None:
        (tmp_path / "tokenizer_config.json").write_text("{}")
    checkpoint = tmp_path if drop is None else save_checkpoint(tmp_path, drop)
    done = run_text(tiny.package("qwen3"), "--weights", checkpoint, "--prompt", prompt, *options)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.startswith("fx2ttnn run: ") and "Traceback" not in done.stderr
