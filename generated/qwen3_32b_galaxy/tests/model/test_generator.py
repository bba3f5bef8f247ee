"""The generator: what it writes against Hugging Face's model, as a trace and call by call, with users that join and leave."""

import pytest
import torch

from ... import model_config as cfg
from ...demo_decode import run as decode_alone
from ...generator import Generator, chunks
from ...pages import OutOfPages, PagePool
from ..float32 import Float32
from ..pcc import assert_pcc

NEW_TOKENS = 4


@pytest.fixture(scope="module")
def generator(mesh_device, reference):
    return Generator(mesh_device, reference.weights(mesh_device), num_layers=reference.num_layers)


@pytest.fixture(scope="module")
def prompts(reference):
    """Prompts of different lengths."""
    torch.manual_seed(1)
    return [reference.text(count) for count in (5, 17, 6)[: cfg.BATCH]]


@pytest.fixture(scope="module")
def written(generator, prompts):
    """Greedy tokens, and the logits that they were drawn from."""
    return generator.generate(prompts, NEW_TOKENS, return_logits=True)


def test_logits(reference, prompts, written):
    """Of every token, those of Hugging Face's model behind the same text; the token drawn is among its best."""
    first = among = count = 0
    for prompt, tokens, logits in zip(prompts, *written):
        text = prompt + tokens[:-1]
        behind = slice(len(prompt) - 1, None)
        for token, found, wanted, clear in zip(
            tokens, logits, _hugging_face(reference, text)[behind], reference.clear(text)[behind]
        ):
            assert found[token] == found.max()
            if clear:
                assert_pcc(found, wanted, cfg.PCC)
                best = wanted.topk(5).indices.tolist()
                first, among, count = first + (token == best[0]), among + (token in best), count + 1
    print(f"top-1 {first} of {count}, top-5 {among} of {count}")
    assert count >= len(prompts)
    assert among >= (0.9 if cfg.PRECISION == "accuracy" else 0.7) * count


def test_again(generator, prompts, written):
    """The same prompts give the same tokens and logits."""
    tokens, logits = generator.generate(prompts, NEW_TOKENS, return_logits=True)
    assert tokens == written[0]
    assert all(torch.equal(a, b) for a, b in zip(logits, written[1]))


def test_without_trace(generator, prompts, written):
    """Call by call it writes the same as from a trace."""
    before, generator.loop.trace = generator.loop.trace, False
    try:
        assert generator.generate(prompts, NEW_TOKENS) == written[0]
    finally:
        generator.loop.trace = before


def test_users_join_and_leave(generator, prompts, written):
    """With fewer users at a time than prompts, each leaves its pages to the next, and writes the same."""
    generator.max_users = min(2, cfg.BATCH)
    try:
        several = generator.generate([*prompts, prompts[0][:2], prompts[0]], NEW_TOKENS)
    finally:
        generator.max_users = cfg.BATCH
    assert several[: len(prompts)] == written[0]
    assert several[-1] == written[0][0]
    assert not generator.users and not generator.pool.held


def test_stop_token(generator, prompts, written):
    """A text ends behind a stop token."""
    (tokens, *_), _ = written
    assert generator.generate(prompts[0], NEW_TOKENS, stop_tokens=[tokens[1]]) == tokens[: tokens.index(tokens[1]) + 1]


def test_next_input(generator, reference):
    """Fed other tokens than it drew, it goes on behind these."""
    text = reference.text(5 + NEW_TOKENS)
    tokens, logits = generator.generate(text[:5], NEW_TOKENS, next_input=text[5:], return_logits=True)
    longer, last = generator.generate(text[:-1], 1, return_logits=True)
    assert_pcc(logits[-1], last[0], cfg.PCC)
    assert len(tokens) == NEW_TOKENS and len(longer) == 1


def test_sampling(generator, prompts):
    """The same seed writes the same text, also alone; of one seed for all, prompt n has seed + n."""
    texts = [generator.generate(prompts, NEW_TOKENS, temperature=1.0, seed=seed) for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    assert generator.generate(prompts[-1], NEW_TOKENS, temperature=1.0, seed=2 + len(prompts)) == texts[0][-1]


def test_warm_up(generator, prompts):
    """Behind it nothing is compiled or captured, whatever is generated."""
    generator.warm_up()
    programs, traces = generator.mesh_device.num_program_cache_entries(), dict(generator.loop._traces)
    generator.generate(prompts, NEW_TOKENS, temperature=1.0, seed=1)
    assert (generator.mesh_device.num_program_cache_entries(), generator.loop._traces) == (programs, traces)


def test_decode_alone(generator, prompts, written):
    """A prompt whose tokens went through the decode step one at a time leaves the same logits behind."""
    generator.reset()
    assert_pcc(_decode(generator, prompts[0], generator.kv_cache), written[1][0][0], cfg.PCC)
    assert len(decode_alone(generator, prompts[:1], 2)[0]) in (1, 2)


def test_two_caches(generator, prompts, written):
    """Steps on one cache, on another and again on the first: none is replayed from a trace that holds the other cache."""
    first, second = prompts[0], prompts[-1]
    generator.loop.release()  # nothing may be allocated beside a trace
    caches = generator.kv_cache, generator.model.allocate_kv_cache()
    generator.reset()
    _decode(generator, first[:-1], caches[0])
    assert_pcc(_decode(generator, second, caches[1]), written[1][-1][0], cfg.PCC)
    assert_pcc(_decode(generator, first[-1:], caches[0], start=len(first) - 1), written[1][0][0], cfg.PCC)


def test_pages_behind_a_prompt(generator, prompts, written):
    """Another user's next token stays as it was, whatever a prompt's row of the page table has behind its own page: 0, a page of that user's, -1."""
    first, second, cache = (
        [3] * min(100, cfg.MAX_SEQ_LEN - 1, (cfg.PAGES_PER_GROUP - 1) * cfg.PAGE_SIZE - 1),
        prompts[0],
        generator.kv_cache,
    )
    count = -(-(len(first) + 1) // cfg.PAGE_SIZE)
    held, own = list(range(count)), count

    def prefill(prompt, pages):
        return generator.prefill_forward([prompt], page_table=[pages], kv_cache=cache, prompt_lens=[len(prompt)])[0, 0]

    def step(prompt, pages):
        return generator.decode_forward([7], [len(prompt)], page_table=[pages], kv_cache=cache)[0, 0]

    prefill(first, held)
    before = step(first, held)
    for behind in (0, held[-1], -1):
        row = [own] + [behind] * cfg.PAGES_PER_USER
        assert_pcc(prefill(second, row), written[1][0][0], cfg.PCC)
        alone = step(second, row)
        assert torch.equal(step(first, [*held, behind]), before)
        assert torch.equal(step(second, row), alone)


def test_cached_prompt(generator):
    """With its first tokens in the cache, up to all, a prompt gives the same; whole pages of them are not written: other tokens there change nothing."""
    torch.manual_seed(3)
    prompt = torch.randint(0, cfg.VOCAB_SIZE, (min(200, cfg.MAX_SEQ_LEN),)).tolist()
    place = {
        "page_table": generator.model.page_table()[:1],
        "kv_cache": generator.kv_cache,
        "prompt_lens": [len(prompt)],
    }
    whole = generator.prefill_forward([prompt], **place)
    for start in {len(prompt) // cfg.PAGE_SIZE * cfg.PAGE_SIZE, len(prompt)}:
        unread = min(start, len(prompt) - 1) // cfg.PAGE_SIZE * cfg.PAGE_SIZE
        found = generator.prefill_forward([[0] * unread + prompt[unread:]], **place, start_pos=[start])
        assert torch.equal(found, whole), start


def test_refused(generator, prompts):
    """A ValueError that says what is wanted, before anything is run."""
    place = {"page_table": generator.model.page_table()[:1], "kv_cache": generator.kv_cache}
    for prompt, count in (([], 0), ([3], 0), ([3], 2), ([cfg.VOCAB_SIZE], 1)):
        with pytest.raises(ValueError, match="prompt 0 has"):
            generator.prefill_forward([prompt], **place, prompt_lens=[count])
    with pytest.raises(ValueError, match="users"):
        generator.decode_forward([3] * (cfg.BATCH + 1), [0] * (cfg.BATCH + 1), **place)
    with pytest.raises(ValueError, match="positions are"):
        generator.decode_forward([3], [cfg.MAX_SEQ_LEN], **place)
    with pytest.raises(ValueError, match="1 entries for 2 prompts"):
        generator.generate([[3], [4]], 1, temperature=[1.0])


def test_chunks():
    """Every token once, each chunk from a multiple of its length on."""
    for count in (1, 31, 32, 33, 129, 2047, 2048, 2049, 4096):
        found = chunks(0, count)
        assert [first for first, _ in found] == [sum(n for _, n in found[:i]) for i in range(len(found))]
        assert all(first % length == 0 and length in cfg.PREFILL_LENGTHS for first, length in found)
        assert found[-1][0] < count <= sum(length for _, length in found)


def test_pages():
    """No page has two owners, pages of users that left are used again, and none beyond those of the users."""
    pool = PagePool()
    for user in range(cfg.BATCH):
        pool.join(user, cfg.MAX_SEQ_LEN)
    groups = [[u for u in range(cfg.BATCH) if u // cfg.USERS_PER_GROUP == group] for group in range(cfg.USER_GROUPS)]
    for users in groups:
        pages = [page for user in users for page in pool.held[user]]
        assert len(set(pages)) == len(pages) and max(pages, default=0) < cfg.USERS_PER_GROUP * cfg.PAGES_PER_USER
    pool.leave(0)
    pool.join(0, 1)
    assert len(pool.held[0]) == 1 and set(pool.table[0].tolist()) == set(pool.held[0])
    with pytest.raises((OutOfPages, ValueError)):
        pool.join(0, 1)


def _decode(generator, tokens, kv_cache, start=0):
    """Logits behind tokens that go through the decode step one at a time, from position `start` on, [VOCAB_SIZE]."""
    table = generator.model.page_table()[:1]
    for position, token in enumerate(tokens, start):
        logits = generator.decode_forward(
            torch.tensor([token]), torch.tensor([position]), page_table=table, kv_cache=kv_cache
        )
    return logits[0, 0]


def _hugging_face(reference, tokens):
    """Logits behind every token, [tokens, VOCAB_SIZE]."""
    with torch.no_grad(), Float32():
        return reference.model(input_ids=torch.tensor([tokens])).logits[0].float()
