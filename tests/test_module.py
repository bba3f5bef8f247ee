"""`--module`: a model class of the user's own enters through the same door as those of transformers."""

import json
import re
from pathlib import Path

import pytest
from recognised import assert_equals_model
from suites import NUMBERS, assert_passes, run_suite
from test_cli import contents, refused
from tiny import CONFIGS, folder_of, write_config

from fx2ttnn import models, pipeline
from fx2ttnn.capture import load_source
from fx2ttnn.errors import UserError

LLAMA = "from transformers.models.llama.modeling_llama import *\n"
# Another configuration, another residual stream: the sum of two embeddings, of which transformers knows nothing.
OWN = """
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaModel


class TwiceConfig(LlamaConfig):
    model_type = "twice"


class TwiceModel(LlamaModel):
    config_class = TwiceConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed_more = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids=None, inputs_embeds=None, **kwargs):
        both = self.embed_tokens(input_ids) + 2 * self.embed_more(input_ids)
        return super().forward(inputs_embeds=both, **kwargs)


class TwiceForCausalLM(LlamaForCausalLM):
    config_class = TwiceConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = TwiceModel(config)
        self.post_init()
"""


@pytest.fixture
def own(tmp_path):
    """A file of a user's, and a config.json with a model type that nobody knows."""
    path = tmp_path / "modeling_twice.py"
    path.write_text(OWN)
    return write_config(tmp_path / "twice", {**CONFIGS["llama"], "model_type": "nobody's"}), f"{path}:TwiceForCausalLM"


def test_a_copy_of_a_model_compiles_to_the_same_package(tmp_path):
    """The source of transformers' Llama as a file of the user's: another are the reference of the tests, and the reader of checkpoints, which knows no rules for it."""
    import transformers.models.llama.modeling_llama as llama

    source = Path(llama.__file__).read_text()
    source = re.sub(
        r"from \.\.\.(\w+)",
        r"from transformers.\1",
        source.replace("from .conf", "from transformers.models.llama.conf"),
    )
    path = tmp_path / "copy of llama.py"
    path.write_text(source)
    for name, module in {"theirs": None, "ours": f"{path}:LlamaForCausalLM"}.items():
        options = pipeline.Options(str(folder_of("llama")), "n150", max_seq_len=64, module=module)
        pipeline.write_package(pipeline.compile_model(options), tmp_path / name)
    theirs, ours = contents(tmp_path / "theirs"), contents(tmp_path / "ours")
    assert {name for name in ours if ours[name] != theirs.get(name)} == {
        "modeling.py",
        "tests/reference.py",
        "loading.py",
    }
    assert ours["modeling.py"].decode() == source


def test_recognised_graph_equals_the_model(own):
    source = load_source(str(own[0]), module=own[1])
    graph = assert_equals_model(source.config, source.model_class)
    assert [op.name for op in graph.ops].count("embedding") == 2


@pytest.mark.slow
def test_compile_check_profile_and_the_emitted_suite(own, run, tmp_path):
    folder, module = own
    options = ["--target", "n150", "--max-seq-len", "64", "--module", module]
    code, _, err = run("compile", folder, *options, "-o", "twice_package")
    assert code == 0, err
    code, _, err = run("profile", folder, *options)
    assert code == 0, err
    Path(module.rpartition(":")[0]).unlink()  # the package carries a copy
    code, _, err = run("check", "twice_package")
    assert code == 0, err
    assert_passes(run_suite(tmp_path / "twice_package"))


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (None, ":A", ["there is no file"]),
        ("", "", ["not of the form path/to/file.py:ClassName"]),
        ("", ":not a name", ["not of the form"]),
        ("class A: pass", ":B", ["defines no B"]),
        ("class A: pass", ":A", ["A of ", "no subclass of transformers.PreTrainedModel"]),
        ("A = 3", ":A", ["no subclass"]),
        ("import transformers\nclass A(transformers.PreTrainedModel): config_class = None", ":A", ["no config_class"]),
        ("x = 1\nclass A(:", ":A", ["modeling.py, line 2", "SyntaxError"]),
        ("def f():\n    return 1 / 0\n\nf()", ":A", ["modeling.py, line 2", "ZeroDivisionError: division by zero"]),
        ("from .configuration import C", ":A", ["line 1", "ImportError", "a copy of this one file"]),
        ("import sys\nsys.exit(0)", ":A", ["line 2", "SystemExit"]),
        ("import nothing_of_this_name", ":A", ["line 1", "No module named 'nothing_of_this_name'"]),
        (
            LLAMA
            + "class A(LlamaForCausalLM):\n    def forward(self, input_ids, **_):\n        return input_ids.item()",
            ":A",
            ["A"],
        ),
    ],
)
def test_bad_modules(text, name, words, run, tmp_path):
    path = tmp_path / "modeling.py"
    if text is not None:
        path.write_text(text)
    refused(run("compile", folder_of("llama"), "--target", "n150", "--module", f"{path}{name}", "-o", "out"), *words)
    assert not (tmp_path / "out").exists()


GROK = {
    **{name: value for name, value in CONFIGS["llama"].items() if name != "model_type"},
    **{"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128},
    # Caps that bite: scores of heads, and logits of experts and of tokens, are of their order.
    **{"attn_logit_softcapping": 1.0, "router_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
}


def grok_module():
    return models.module_of(models.config_path("grok-2"))


def test_grok_is_built_in():
    source = load_source("xai-org/grok-2", layers=1)
    assert source.model_class.__name__ == source.module.class_name == "GrokForCausalLM"
    assert source.config.max_position_embeddings == source.config.attn_temperature_len == 1024  # not beyond


def test_a_config_names_no_code_of_its_own(tmp_path):
    """What a built-in configuration may, one from elsewhere may not."""
    folder = write_config(tmp_path / "model", json.loads(models.config_path("grok-2").read_text()))
    with pytest.raises(UserError, match=r"auto_map.*not run.*--module"):
        load_source(str(folder))


def test_grok_recognised_graph_equals_the_model(tmp_path):
    source = load_source(str(write_config(tmp_path / "tiny_grok", {**GROK, "model_type": "git"})), module=grok_module())
    graph = assert_equals_model(source.config, source.model_class)
    names = [op.name for op in graph.ops]
    assert {"router_logits", "topk", "scale_by_routing"} <= set(names)
    (attention,) = (op for op in graph.ops if op.name == "attention")
    assert attention.attrs["softcap"] == 1.0


@pytest.mark.parametrize("target", ["n150", "galaxy"])
def test_every_operation_of_grok_has_calls(target, tmp_path):
    folder = write_config(tmp_path / "tiny_grok", GROK)
    options = pipeline.Options(str(folder), target, max_seq_len=128, module=grok_module())
    assert pipeline.compile_model(options).coverage.percent == 100


@pytest.mark.slow
def test_the_emitted_suite_of_grok_passes(tmp_path):
    folder = write_config(tmp_path / "tiny_grok", GROK)
    options = pipeline.Options(str(folder), "n150", max_seq_len=128, module=grok_module())
    pipeline.write_package(pipeline.compile_model(options), tmp_path / "grok_package")
    assert_passes(run_suite(tmp_path / "grok_package", *NUMBERS))
