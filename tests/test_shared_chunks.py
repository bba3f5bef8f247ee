"""Chunks of a prompt whose tokens groups of chips divide: which lengths do so, and what the emitted package gives each group."""

import importlib
import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from tiny import CONFIGS, folder_of

from fx2ttnn import pipeline

NAME = "package_of_test_shared_chunks"
# Heads over rows of the Galaxy, users over its columns: each column holds pages for 8 users and spare ones.
MODEL = {**CONFIGS["qwen3_galaxy"], "num_hidden_layers": 1, "vocab_size": 1024}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The compiled model, and modules of its package."""
    CONFIGS["one_layer"] = MODEL
    try:
        compiled = pipeline.compile_model(pipeline.Options(str(folder_of("one_layer")), "galaxy", max_seq_len=4096))
    finally:
        del CONFIGS["one_layer"]
    folder = tmp_path_factory.mktemp("shared") / NAME
    pipeline.write_package(compiled, folder)
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
    names = ("generator", "inputs", "model_config", "attention")
    return compiled, SimpleNamespace(**{name: importlib.import_module(f"{NAME}.{name}") for name in names})


def test_only_the_long_chunk_divides_tokens_among_groups(made):
    """The others may follow cached tokens, which the user's own group alone has."""
    program = made[0].program
    (users,) = program.plan.attention_axes(0)
    tokens = {length: plan.attention_axes(2) for length, plan in program.prefill_plans.items()}
    assert {length for length, axes in tokens.items() if users in axes} == {2048} == {*program.whole_prompts_only}
    assert program.by_mode.keys() == {"prefill", "short_prefill"} and [*program.by_mode["short_prefill"]] == [128, 512]


def test_a_cached_prompt_is_run_in_chunks_that_may_follow_it(made):
    chunks = made[1].generator.chunks
    assert chunks(0, 4096) == chunks(100, 4096) == [(0, 2048), (2048, 2048)]
    assert chunks(2048, 2048 + 700) == [(2048, 512), (2560, 128), (2688, 128)]


def test_each_group_begins_at_its_part_of_the_chunk(made):
    assert made[1].inputs.chunk_starts(2048, 2048).tolist() == [2048, 2560, 3072, 3584]


def test_spare_pages_are_written_whatever_is_cached(made):
    """They hold what the last prompt left: groups that attend for others read the whole prompt there."""
    inputs, pages = made[1].inputs, made[1].model_config.PAGES_PER_GROUP
    table = torch.arange(32)[:, None] * 64 % pages + torch.arange(64)
    written = inputs.pages_of_chunk(table, 8, 0, 128, 70, 64)  # the first user of the second group
    assert written.tolist() == [[pages, pages + 1], [-1, 1], [pages, pages + 1], [pages, pages + 1]]


def test_both_methods_are_emitted(made):
    methods = {"decode_forward", "prefill_forward", "short_prefill_forward"}
    assert methods <= vars(made[1].attention.Qwen3Attention).keys()
