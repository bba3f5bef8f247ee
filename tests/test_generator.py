"""Sampling through the rule tables, and the command that runs a package."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from fx2ttnn import targets
from fx2ttnn.errors import UserError
from fx2ttnn.lower.sampling import lower_sampling
from fx2ttnn.lower.values import Lowered, Memory, Tensor
from fx2ttnn.plan import Plan
from fx2ttnn.plan.precision import PRECISIONS
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
    assert functions(lowered("n150", 49152, ("R", "R"))) == ["topk", "typecast", "to_layout", "sampling"]


def test_columns_beyond_16_bits_are_token_ids_already() -> None:
    graph = lowered("n150", 151936, ("R", "R"))
    assert functions(graph) == ["topk", "to_layout", "sampling"]
    assert graph.tensors[graph.calls[0].outputs[1]].dtype == "uint32"


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


@pytest.mark.parametrize("width", [16, 33, 1024, 4748, 32768, 32769])
def test_candidates_are_a_power_of_two_of_tiles(width: int) -> None:
    graph = lowered("galaxy", width, (3, "R"))
    values = graph.tensors[graph.calls[-1].args[0]]
    assert values.width == 256
    topk = next(call for call in graph.calls if call.function == "ttnn.topk")
    assert graph.tensors[topk.args[0]].width >= min(64, width)


def test_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no package"):
        run(tmp_path, tmp_path, [])
    for name in ("text_demo.py", "model_config.py"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="no checkpoint"):
        run(tmp_path, tmp_path / "absent", [])


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
    assert "backend: fx2ttnn emulator" in first.stdout and "no measure of the hardware" in first.stdout
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
        (None, "w1", (), "no tokenizer in"),
    ],
)
def test_run_refuses_bad_input(tmp_path: Path, drop: str | None, prompt: str, options: tuple, message: str) -> None:
    """One message and exit code 2."""
    checkpoint = tmp_path if drop is None else save_checkpoint(tmp_path, drop)
    done = run_text(tiny.package("qwen3"), "--weights", checkpoint, "--prompt", prompt, *options)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.startswith("fx2ttnn run: ") and "Traceback" not in done.stderr
