"""vLLM's adapter as Tenstorrent's plugin calls it, without vLLM: a caller that plays the plugin's part, over random weights.

Of what went wrong between other models and servers, these cases are tried:

- a prompt's padding, or its page table, writes pages of others: `test_only_own_pages_are_written` (tt-metal #56324)
- several prompts at once, in any slots: `test_prompts_at_once` (tt-metal #50685, #44705)
- a hit of the prefix cache, of one page up to all but one token: `test_cached_tokens` (tt-xla #5132, #5897)
- a request that is preempted and comes back as a prompt: `test_preempted` (vllm-tt-plugin #35, #42)
- rows that move between steps: `test_rows_move` (vllm-tt-plugin #33)
- a step that is read twice, or late: `test_read_again_and_late` (vllm-tt-plugin #58)
- programs compiled or traces captured behind the warm-up: every test, see `plugin` (tt-metal #56215, #54441)
- a step that goes on with the mesh's own tokens, whatever the host gives: `test_resident` (vllm-tt-plugin #21, tt-metal #47359)
- seeds by slot or by call: `test_seeds` (tt-metal #45532, #37397, #50685; vllm #479)
- what the mesh cannot draw: `test_drawn_on_the_host`
- a prompt in parts of any length: `test_prompt_in_parts` (vllm-tt-plugin #74)
- more than the package has: `test_sizes`

That a step is no prefill (vllm-tt-plugin #66) only the plugin itself can show.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import ttnn

from ... import model_config as cfg
from ...generator import Generator
from ...mesh import from_mesh
from ...vllm_adapter import LANES, LONGEST, SLOTS, ServedModel
from ...vllm_sampling import Draw
from ..pcc import assert_pcc

STEPS = 3  # behind each prompt
STRIDE = -(-SLOTS // 2)  # slots of a lane: fewer than the package has users, as a server may want
SLOT_COUNT = LANES * STRIDE
USED = sorted(
    {0, min(2, STRIDE - 1), SLOT_COUNT // 2, SLOT_COUNT - 1}
)  # slots for prompts: in several lanes, two in one
WIDTH = -(-LONGEST // cfg.PAGE_SIZE)  # columns of the page table
LENGTHS = [min(count, LONGEST - STEPS) for count in (2 * cfg.PAGE_SIZE + 1, 5, cfg.PAGE_SIZE - 1, cfg.PAGE_SIZE + 6)]
MEMORIES = (ttnn.BufferType.DRAM, ttnn.BufferType.L1)
PAGES = 24  # of a lane; page 0 is never given to a request


class Plugin:
    """Calls the adapter as the plugin's worker does.

    Behind a request's own pages its row of the page table has ids of others: vLLM clears nothing. Pages that became free are given first.
    """

    def __init__(self, served, kv_cache):
        self.served, self.kv_cache = served, kv_cache
        self.table = torch.randint(1, PAGES, (SLOT_COUNT, WIDTH), dtype=torch.int32)
        self.free = [list(range(1, PAGES)) for _ in range(LANES)]
        self.pages, self.counts = {}, {}

    def join(self, texts, hits=None):
        """Logits behind texts, by slot. `hits`: pages with a text's first tokens, by slot."""
        self.pages |= {slot: list((hits or {}).get(slot, ())) for slot in texts}
        starts = {slot: len(self.pages[slot]) * cfg.PAGE_SIZE for slot in texts}
        return self.prefill(texts, starts)

    def prefill(self, texts, starts, draws=None):
        """Logits behind texts, by slot, of which the cache holds the first tokens; with `draws` by slot the tokens drawn from them."""
        for slot, text in texts.items():
            self._reserve(slot, len(text))
        tokens = torch.zeros(len(texts), max(map(len, texts.values())), dtype=torch.int32)
        for row, text in zip(tokens, texts.values()):
            row[: len(text)] = torch.tensor(text)
        logits = self.served.prefill_forward(
            tokens=tokens,
            page_table=self.table[list(texts)],
            kv_cache=self.kv_cache,
            enable_trace=True,
            prompt_lens=np.array([len(text) for text in texts.values()]),
            start_pos=np.array([starts[slot] for slot in texts]),
            empty_slots=list(texts),
            **({"sampling_params": _parameters([draws[slot] for slot in texts])} if draws else {}),
        )
        if draws:
            assert logits.shape == (len(texts),)
            return dict(zip(texts, logits.tolist()))
        assert logits.shape == (len(texts), 1, cfg.VOCAB_SIZE)
        return dict(zip(texts, logits[:, 0]))

    def submit(self, tokens, **more):
        """A step with the next tokens of slots: its logits on the mesh."""
        given, positions = (
            torch.zeros(SLOT_COUNT, 1, dtype=torch.int32),
            torch.full((SLOT_COUNT,), -1, dtype=torch.int32),
        )
        for slot, token in tokens.items():
            self._reserve(slot, self.counts[slot] + 1)
            given[slot], positions[slot] = token, self.counts[slot] - 1
        return self.served.decode_forward(
            tokens=given,
            start_pos=positions,
            page_table=self.table.clone(),
            kv_cache=self.kv_cache,
            enable_trace=True,
            read_from_device=False,
            **more,
        )

    def submit_drawn(self, tokens, draws, contract=True, steady=False, **more):
        """A step that draws for slots. In a steady one the tokens are those that the mesh has drawn, which the host may not know."""
        if steady:
            before = {slot: self.table[slot].clone() for slot in tokens}
            for slot in tokens:
                self._reserve(slot, self.counts[slot] + 1)
                self.counts[slot] -= 1
            grown = any(not torch.equal(before[slot], self.table[slot]) for slot in tokens)
        else:
            grown = False
        commands = {"reset_batch": not steady}
        if contract:
            commands = {
                "reload_inputs": not steady,
                "reload_page_table": grown,
                "reload_sampling_params": not steady,
                "reset_sampling_state": not steady,
            }
        given = [draws.get(slot, Draw()) for slot in range(SLOT_COUNT)]
        return self.submit(tokens, sampling_params=_parameters(given), **commands, **more)

    def write(self, texts, draws, count, contract=True, wrong=False):
        """The `count` tokens drawn behind texts, by slot: the first behind the prompts, then by steps that go on with what the mesh has drawn.

        With `wrong` the host gives tokens that are not those.
        """
        self.pages |= {slot: [] for slot in texts if slot not in self.pages}
        found = {slot: [token] for slot, token in self.prefill(texts, dict.fromkeys(texts, 0), draws).items()}
        for step in range(count - 1):
            given = {slot: 1 if wrong and step else tokens[-1] for slot, tokens in found.items()}
            output = self.submit_drawn(given, draws, contract, steady=step > 0)
            for slot, token in self.read_tokens(output, texts).items():
                found[slot].append(token)
        return found

    def read_tokens(self, output, slots):
        """The tokens that a step has drawn, by slot."""
        if not isinstance(output, torch.Tensor):
            assert output.volume() <= 2 * cfg.ROWS, "more than the tokens is read"
            output = self.served.process_decode_output_host(output, is_tokens=True)
        assert output.shape == (SLOT_COUNT,)
        return {slot: output[slot].item() for slot in slots}

    def step(self, tokens, **more):
        """Logits behind the next tokens of slots, by slot."""
        return self.read(self.submit(tokens, **more), tokens)

    def read(self, output, tokens):
        """A step's logits by slot."""
        logits = self.served.process_decode_output_host(output, is_tokens=False)
        assert logits.shape == (SLOT_COUNT, 1, cfg.VOCAB_SIZE)
        return {slot: logits[slot, 0] for slot in tokens}

    def leave(self, slot):
        """A request ends, or is preempted; its row stays as it is."""
        self.free[slot // STRIDE] += self.pages.pop(slot)

    def move(self, slot, to):
        """A request goes to another slot of its lane; what is there comes to its."""
        self.table[[slot, to]] = self.table[[to, slot]]
        self.pages[to], self.counts[to] = self.pages.pop(slot), self.counts.pop(slot)

    def _reserve(self, slot, count):
        pages = self.pages[slot]
        while len(pages) * cfg.PAGE_SIZE < count:
            pages.append(self.free[slot // STRIDE].pop())
        self.table[slot, : len(pages)] = torch.tensor(pages)
        self.counts[slot] = count

    def cached(self):
        """What the pages of a layer hold, [chips, pages, numbers]."""
        found = []
        for tensor in self.kv_cache[0]:
            rows = from_mesh(self.served.generator.mesh_device, tensor, (0, 1)).float()
            chips = (
                rows.unflatten(0, (cfg.MESH_SHAPE[0], -1))
                .unflatten(2, (cfg.MESH_SHAPE[1], -1))
                .transpose(1, 2)
                .flatten(0, 1)
            )
            found.append(chips[:, :PAGES].flatten(2))
        return torch.cat(found, -1)


@pytest.fixture(scope="module")
def served(mesh_device, reference):
    """The adapter and a cache as vLLM asks for it, warmed up in the plugin's order."""
    generator = Generator(mesh_device, reference.weights(mesh_device), num_layers=reference.num_layers)
    served = ServedModel(generator, STRIDE)
    kv_cache = served.allocate_kv_cache(
        (PAGES, cfg.NUM_KV_HEADS, cfg.PAGE_SIZE, 64), torch.bfloat16, reference.num_layers
    )
    for trace in (False, True):
        served.warmup_model_prefill(kv_cache=kv_cache, enable_trace=trace, can_sample_on_device=False)
        served.warmup_model_decode(
            kv_cache=kv_cache,
            max_batch_size=SLOT_COUNT,
            num_blocks=WIDTH,
            enable_trace=trace,
            can_sample_on_device=False,
        )
    yield served, kv_cache
    generator.loop.release()


@pytest.fixture
def plugin(served):
    """A plugin without requests. Behind the test there is no program, trace, input or allocation on the mesh that was not there before."""
    adapter, kv_cache = served
    loop = adapter.generator.loop

    def held():
        traces = {name: trace for name, (trace, _) in loop._traces.items()}
        return (
            adapter.generator.mesh_device.num_program_cache_entries(),
            traces,
            {name: id(tensor) for name, tensor in loop.inputs.items()},
        )

    before = held()
    assert set(before[1]) == {"step", "sample", *cfg.PREFILL_LENGTHS}
    yield Plugin(adapter, kv_cache)
    assert held() == before


@pytest.fixture(scope="module")
def texts(reference):
    """A text for each slot that is used, STEPS tokens longer than its prompt."""
    torch.manual_seed(4)
    return {slot: reference.text(count + STEPS) for slot, count in zip(USED, LENGTHS)}


@pytest.fixture(scope="module")
def prompts(texts):
    return {slot: text[:-STEPS] for slot, text in texts.items()}


@pytest.fixture(scope="module")
def short(prompts):
    """Those of a page at most, where there are any."""
    return {slot: prompt for slot, prompt in prompts.items() if len(prompt) <= cfg.PAGE_SIZE} or prompts


@pytest.fixture(scope="module")
def alone(served, texts, prompts):
    """Logits behind each prompt and each further token of its text, run alone in slot 0 with a clean page table."""
    found = {}
    for slot, text in texts.items():
        plugin = Plugin(*served)
        plugin.table.zero_()
        found[slot] = [plugin.join({0: prompts[slot]})[0], *(plugin.step({0: token})[0] for token in text[-STEPS:])]
    return found


def test_prompts_at_once(plugin, texts, prompts, alone):
    """Prompts of different lengths in one call, in slots with gaps between them, then steps of all and of some: each as if alone."""
    first, *others = texts
    _assert_same(plugin.join(prompts), alone, 0)
    _assert_same(plugin.step({slot: text[-3] for slot, text in texts.items()}), alone, 1)
    plugin.leave(first)
    _assert_same(plugin.step({slot: texts[slot][-2] for slot in others}), alone, 2)
    _assert_same(plugin.join({first: prompts[first]}), alone, 0)
    _assert_same(
        plugin.step({slot: text[-3 if slot == first else -1] for slot, text in texts.items()}), alone, 3, {first: 1}
    )


def test_only_own_pages_are_written(plugin, texts, prompts):
    """A prompt and a step write pages of the requests that they are for, on the chips of their lanes, whatever else the page table has."""
    first, *others = texts
    if others:
        plugin.join({slot: prompts[slot] for slot in others})
    plugin.table[first] = torch.arange(WIDTH) % (PAGES - 1) + 1  # pages of the others, too
    before = plugin.cached()
    plugin.join({first: prompts[first]})
    _assert_written(before, plugin.cached(), {first: plugin.pages[first]})
    before = plugin.cached()
    plugin.step({slot: text[-3] for slot, text in texts.items()})
    _assert_written(before, plugin.cached(), {slot: pages[-1:] for slot, pages in plugin.pages.items()})


def test_cached_tokens(plugin, texts, prompts, alone):
    """With its first pages from another request, up to all but one token, a text goes on as it does alone.

    Those pages are not written: other tokens there change nothing.
    """
    first, prompt = USED[0], prompts[USED[0]]
    plugin.join({first: prompt})
    held = plugin.pages[first]  # not free again: vLLM keeps them
    for count in range(1, (len(prompt) - 1) // cfg.PAGE_SIZE + 1):
        before = plugin.cached()
        unread = count * cfg.PAGE_SIZE
        _assert_same(plugin.join({first: [0] * unread + prompt[unread:]}, hits={first: held[:count]}), alone, 0)
        _assert_written(before, plugin.cached(), {first: plugin.pages[first][count:]})
        _assert_same(plugin.step({first: texts[first][-3]}), alone, 1)
    _assert_same(plugin.prefill({first: prompt}, {first: len(prompt) - 1}), alone, 0)


def test_preempted(plugin, texts, prompts, alone):
    """A request whose pages went to another one comes back as a prompt of its text so far, in another slot: it goes on as it would have."""
    slot, other = USED[0], USED[-1]
    text, prompt = texts[slot], prompts[slot]
    plugin.join({slot: prompt})
    plugin.step({slot: text[-3]})
    plugin.leave(slot)
    _assert_same(plugin.join({slot: prompts[other]}), alone, 0, of=other)
    plugin.leave(slot)
    assert_pcc(plugin.join({other: text[:-1]})[other], alone[slot][2], cfg.PCC)
    assert_pcc(plugin.step({other: text[-1]})[other], alone[slot][3], cfg.PCC)


def test_rows_move(plugin, texts, prompts, alone):
    """A request whose row the plugin moves to another slot of the lane goes on there."""
    slot, other = 0, STRIDE - 1
    text = texts[USED[0]]
    plugin.join({slot: prompts[USED[0]]})
    _assert_same(plugin.step({slot: text[-3]}), alone, 1)
    remap = torch.arange(SLOT_COUNT)
    remap[[slot, other]] = remap[[other, slot]]
    plugin.move(slot, other)
    _assert_same(plugin.step({other: text[-2]}, slot_remap=remap), alone, 2, of=USED[0])


def test_read_again_and_late(plugin, texts, prompts, alone):
    """A step's logits are the same when they are read twice, and on another way to the host; what is on the way stays when the next step runs."""
    slot, text = USED[0], texts[USED[0]]
    plugin.join({slot: prompts[slot]})
    output = plugin.submit({slot: text[-3]})
    for _ in range(2):
        _assert_same(plugin.read(output, [slot]), alone, 1)
    host, events = plugin.served.read_decode_output(output, async_read=True)
    after = plugin.submit({slot: text[-2]})
    for event in events:
        ttnn.event_synchronize(event)
    _assert_same(plugin.read(host, [slot]), alone, 1)
    _assert_same(plugin.read(after, [slot]), alone, 2)
    host, events = plugin.served.read_decode_output(after)
    assert not events
    _assert_same(plugin.read(host, [slot]), alone, 2)


@pytest.mark.parametrize("contract", [False, True])
def test_resident(plugin, served, short, contract):
    """Steps that go on with the mesh's own tokens write what steps with the host's write, also over a page's end, whatever tokens the host gives."""
    draws = {slot: Draw() for slot in short}
    found = plugin.write(short, draws, STEPS, contract, wrong=True)
    again = Plugin(*served)
    again.pages |= {slot: [] for slot in short}
    expected = {slot: [token] for slot, token in again.prefill(short, dict.fromkeys(short, 0), draws).items()}
    for _ in range(STEPS - 1):
        output = again.submit_drawn({slot: tokens[-1] for slot, tokens in expected.items()}, draws, contract)
        for slot, token in again.read_tokens(output, short).items():
            expected[slot].append(token)
    assert found == expected


def test_best_tokens(plugin, prompts, alone):
    """The token drawn behind a prompt, and by a step, is one with the highest logit."""
    draws = {slot: Draw() for slot in prompts}
    plugin.pages |= {slot: [] for slot in prompts}
    for slot, token in plugin.prefill(prompts, dict.fromkeys(prompts, 0), draws).items():
        assert alone[slot][0][token] == alone[slot][0].max()


def test_drawn_tokens_read_late(plugin, short):
    """Tokens on their way to the host stay when the next step runs."""
    draws = {slot: Draw() for slot in short}
    expected = plugin.write(short, draws, STEPS + 1)
    for slot in short:
        plugin.leave(slot)
    plugin.pages |= {slot: [] for slot in short}
    first = plugin.prefill(short, dict.fromkeys(short, 0), draws)
    outputs = []
    for step in range(STEPS):
        output = plugin.submit_drawn(first, draws, steady=step > 0)
        outputs.append(plugin.served.read_decode_output(output, async_read=True))
    for step, (host, events) in enumerate(outputs):
        for event in events:
            ttnn.event_synchronize(event)
        assert plugin.read_tokens(host, short) == {slot: tokens[step + 1] for slot, tokens in expected.items()}


@pytest.mark.parametrize("top_k", [32, cfg.VOCAB_SIZE])
def test_seeds(plugin, served, short, top_k):
    """The same seed writes the same text: alone, in company, in another slot, whether the mesh draws it or the host; another seed or none another."""
    prompt, first, last = next(iter(short.values())), USED[0], USED[-1]
    alone = plugin.write({first: prompt}, {first: Draw(temperature=50.0, top_k=top_k, seed=7)}, STEPS)[first]
    draws = {slot: Draw(temperature=50.0, top_k=top_k, seed=number or None) for number, slot in enumerate(short)}
    draws[last] = Draw(temperature=50.0, top_k=top_k, seed=7)
    found = Plugin(*served).write(dict.fromkeys(draws, prompt), draws, STEPS, contract=False)
    assert found[last] == alone
    assert len({tuple(text) for text in found.values()}) == len(found)


def test_preempted_with_a_seed(plugin, served, short):
    """A request that comes back as a prompt of its text so far draws the tokens that it would have drawn."""
    prompt, draw = next(iter(short.values())), Draw(temperature=5.0, top_k=8, seed=3)
    text = Plugin(*served).write({USED[0]: prompt}, {USED[0]: draw}, STEPS)[USED[0]]
    assert plugin.write({USED[-1]: prompt + text[:1]}, {USED[-1]: draw}, 1)[USED[-1]] == text[1:2]


def test_rows_move_with_their_draws(plugin, served, short):
    """Where slots change, what a request draws by goes with it, once; that idle slots change, nobody sees."""
    slot, other, draw = 0, STRIDE - 1, Draw(temperature=5.0, top_k=8, seed=3)
    prompt = next(iter(short.values()))
    expected = Plugin(*served).write({slot: prompt}, {slot: draw}, 3)[slot]
    found = plugin.write({slot: prompt}, {slot: draw}, 2)[slot]
    remap = torch.arange(SLOT_COUNT)
    remap[[slot, other]] = remap[[other, slot]]
    if other > 1:
        idle = torch.arange(SLOT_COUNT)
        idle[[1, other]] = idle[[other, 1]]
        plugin.served._move(idle, False)
    if other != slot:
        with pytest.raises(ValueError, match="reload_inputs"):
            plugin.served._move(remap, False)
    plugin.move(slot, other)
    commands = {
        "reload_inputs": True,
        "reload_page_table": False,
        "reload_sampling_params": False,
        "reset_sampling_state": False,
    }
    parameters = _parameters([Draw()] * SLOT_COUNT)  # not to be loaded
    output = plugin.submit({other: found[-1]}, slot_remap=remap, sampling_params=parameters, **commands)
    assert plugin.read_tokens(output, [other])[other] == expected[-1]


def test_drawn_on_the_host(plugin, served, prompts, alone):
    """What the mesh cannot draw is drawn from the logits, as vLLM would; who takes the best token beside it still does."""
    first, last = USED[0], USED[-1]
    draws = {slot: Draw() for slot in prompts} | {first: Draw(repetition_penalty=1e4)}
    assert not draws[first].on_mesh
    found = plugin.write(prompts, draws, STEPS)
    assert not set(found[first]) & set(prompts[first])
    if last != first:
        assert found[last] == Plugin(*served).write({last: prompts[last]}, {last: draws[last]}, STEPS)[last]
    logits = alone[first][0]
    best = logits.argmax().item()
    position = len(prompts[first])
    assert Draw(temperature=1.0, top_k=1).choose(logits, position) == best
    assert Draw(temperature=1.0, top_k=cfg.VOCAB_SIZE, top_p=0.0).choose(logits, position) == best
    assert Draw(presence_penalty=1e4).choose(logits, position, output=[best, -1]) != best
    assert Draw(frequency_penalty=1e4).choose(logits, position, prompt=[best, -1]) == best
    assert Draw(repetition_penalty=1e4).choose(logits.abs() + 1, position, prompt=[best, -1]) != best


def test_log_probs(plugin, prompts):
    """With a token its log-probability, where it is asked for."""
    slot = USED[0]
    draws = {slot: Draw(log_prob=True)}
    plugin.pages[slot] = []
    tokens = torch.tensor([prompts[slot]], dtype=torch.int32)
    plugin._reserve(slot, tokens.shape[1])
    drawn, log_prob = plugin.served.prefill_forward(
        tokens=tokens,
        page_table=plugin.table[[slot]],
        kv_cache=plugin.kv_cache,
        prompt_lens=np.array([tokens.shape[1]]),
        start_pos=np.array([0]),
        empty_slots=[slot],
        sampling_params=_parameters([draws[slot]]),
    )
    assert drawn.shape == log_prob.shape == (1,) and log_prob[0] < 0
    drawn, log_prob = plugin.submit_drawn({slot: drawn[0].item()}, draws)
    assert drawn.shape == log_prob.shape == (SLOT_COUNT,) and log_prob[slot] < 0


def test_host_and_mesh_by_turns(plugin, prompts, alone, texts):
    """A step whose tokens the host draws, then one by the mesh, which loads all anew though slots have not changed."""
    slot = USED[0]
    plugin.join({slot: prompts[slot]})
    _assert_same(plugin.step({slot: texts[slot][-3]}), alone, 1)
    commands = {
        "reload_inputs": False,
        "reload_page_table": False,
        "reload_sampling_params": False,
        "reset_sampling_state": False,
    }
    with pytest.raises(ValueError, match="reload_inputs is False"):
        plugin.submit({slot: texts[slot][-2]}, sampling_params=_parameters([Draw()] * SLOT_COUNT), **commands)
    plugin.counts[slot] -= 1
    output = plugin.submit(
        {slot: texts[slot][-2]}, sampling_params=_parameters([Draw()] * SLOT_COUNT), reset_batch=False
    )
    token = plugin.read_tokens(output, [slot])[slot]
    assert alone[slot][2][token] == alone[slot][2].max()


def test_prompt_in_parts(plugin, prompts, alone, texts):
    """A prompt that comes in parts, which begin and end anywhere, leaves the same as a whole one."""
    slot = USED[0]
    prompt = prompts[slot]
    for cut in (cfg.PAGE_SIZE - 3, len(prompt) - 1):
        plugin.pages[slot] = []
        plugin.prefill({slot: prompt[:cut]}, {slot: 0})
        _assert_same(plugin.prefill({slot: prompt}, {slot: cut}), alone, 0)
        _assert_same(plugin.step({slot: texts[slot][-3]}), alone, 1)
        plugin.leave(slot)


def test_sizes(served):
    """The package serves what vllm.json asks for; more of anything is a ValueError that says what to ask for."""
    adapter, _ = served
    wanted = json.loads((Path(__file__).parents[2] / "vllm.json").read_text())["options"]
    size = {
        "max_model_len": wanted["--max-model-len"],
        "max_num_seqs": wanted["--max-num-seqs"],
        "tt_data_parallel": wanted.get("--data-parallel-size", 1),
    }
    tokens = size["max_model_len"]
    assert adapter.get_max_tokens_all_users(**size, num_devices=1) == size["max_num_seqs"] * tokens
    for name, option in (
        ("max_model_len", "--max-model-len"),
        ("max_num_seqs", "--max-num-seqs"),
        ("tt_data_parallel", "lanes"),
    ):
        with pytest.raises(ValueError, match=option):
            adapter.get_max_tokens_all_users(**{**size, name: size[name] + 1})
    with pytest.raises(ValueError, match="--block-size"):
        adapter.allocate_kv_cache(
            (PAGES, cfg.NUM_KV_HEADS, 2 * wanted["--block-size"], 64), torch.bfloat16, cfg.NUM_LAYERS
        )


def _parameters(draws):
    """Sampling parameters as the plugin gives them: a list for each field."""
    names = ("temperature", "top_k", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed")
    columns = {name: [getattr(draw, name) for draw in draws] for name in names}
    return SimpleNamespace(**columns, enable_log_probs=[draw.log_prob for draw in draws])


def _assert_same(found, alone, behind, others=(), of=None):
    """Logits by slot are those of the text (`of`: of another slot) alone, so many tokens behind its prompt; in `others` by slot."""
    for slot, logits in found.items():
        number = dict(others).get(slot, behind)
        assert torch.equal(logits, alone[slot if of is None else of][number]), (
            f"slot {slot}, {number} tokens behind its prompt"
        )


def _assert_written(before, after, pages):
    """Between two states of the cache none but these `pages` by slot have changed, each on the chips of its lane."""
    allowed = torch.zeros(LANES, PAGES, dtype=torch.bool)
    for slot, held in pages.items():
        allowed[slot // STRIDE, held] = True
    for chip, changed in enumerate((before != after).any(-1)):
        assert any(not (changed & ~lane).any() for lane in allowed), (
            f"chip {chip}: pages {changed.nonzero().flatten().tolist()}, not {pages}"
        )
