"""The generator of tt/generator.py, imported and called as tt-metal's readiness check does, over random weights."""

import importlib.util
from pathlib import Path

import pytest
import torch

from ... import model_config as cfg
from ...generator import Generator
from ..pcc import assert_pcc

NEW_TOKENS = 3
PACKAGE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shim():
    spec = importlib.util.spec_from_file_location(f"_readiness_{PACKAGE.name}", PACKAGE / "tt" / "generator.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator(shim, mesh_device, reference):
    generator = shim.ReadinessGenerator(
        Generator(mesh_device, reference.weights(mesh_device), num_layers=reference.num_layers)
    )
    yield generator
    generator.teardown()


@pytest.fixture(scope="module")
def text(reference):
    torch.manual_seed(5)
    return reference.text(4 + NEW_TOKENS)


@pytest.fixture(scope="module")
def forced(generator, text):
    """Tokens drawn behind the first tokens of the text, each behind the text's own, and the logits that they were drawn from."""
    return generator.generator.generate(text[:4], NEW_TOKENS, next_input=text[4:], return_logits=True)


def test_teacher_forcing(generator, text, forced):
    """`next_input` sees every token that is drawn, and gives the one that is fed."""
    seen = []

    def next_input(step, token):
        seen.append((step, token))
        return text[4 + step]

    generator.reset()
    assert (
        generator.generate(prompt_token_ids=text[:4], max_new_tokens=NEW_TOKENS, next_input=next_input, unknown=1)
        == forced[0]
    )
    assert seen == list(enumerate(forced[0]))


def test_autoregressive(generator, text):
    """Fed its own tokens by `next_input` it writes what it writes without."""
    generator.reset()
    written = generator.generate(text[:4], NEW_TOKENS, next_input=None, stop_on_eos=False)
    assert generator.generate(text[:4], NEW_TOKENS, next_input=lambda step, token: token) == written


def test_logits_of_all_tokens(generator, text, forced):
    """Of two prompts at once: those that tokens behind the same text are drawn from."""
    prompts = torch.tensor([text, [*text[:4], *[0] * NEW_TOKENS]])[: cfg.BATCH]
    lengths = [len(text), 4][: cfg.BATCH]
    logits = generator.prefill_forward(
        tokens=prompts, page_table=None, kv_cache=None, prompt_lens=lengths, return_all_logits=True
    )
    assert logits.shape == (len(lengths), len(text), cfg.VOCAB_SIZE)
    for step, wanted in enumerate(forced[1]):
        assert_pcc(logits[0, 3 + step], wanted, cfg.PCC)
    if len(lengths) > 1:
        assert_pcc(logits[1, 3], forced[1][0], cfg.PCC)


def test_prefill_and_decode(generator, text, forced):
    """One after the other, on a cache of the caller's."""
    held = {"page_table": generator.generator.model.page_table()[:1], "kv_cache": generator.generator.kv_cache}
    found = generator.prefill_forward(torch.tensor([text[:4]]), **held, prompt_lens=[4], enable_trace=True)
    assert torch.equal(found[0, 0], forced[1][0])
    found = generator.decode_forward(torch.tensor([[text[4]]]), torch.tensor([4]), **held)
    assert found.shape == (1, cfg.VOCAB_SIZE)
    assert_pcc(found[0], forced[1][1], cfg.PCC)


def test_no_weights(shim, monkeypatch):
    """Without a checkpoint it says how to name one."""
    monkeypatch.delenv("FX2TTNN_WEIGHTS", raising=False)
    monkeypatch.delenv("HF_MODEL", raising=False)
    with pytest.raises(ValueError, match="FX2TTNN_WEIGHTS"):
        shim.build_generator(model_dir=PACKAGE, mesh_device=None, max_seq_len=128)
