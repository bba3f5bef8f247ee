"""Text generation: prompts into the paged cache, decode steps replayed as a trace, users that join and leave."""

import random
from collections import deque
from dataclasses import dataclass, field

import torch
import ttnn

from . import model_config as cfg
from .decode_loop import GREEDY, DecodeLoop, draw_seed, sampling_settings
from .inputs import check_pages, own_pages
from .model import Qwen3ForCausalLM
from .pages import PagePool
from .sampling import Sampler
from .tokenizer import NoTokenizer, encode, end_tokens, load_tokenizer
from .weights import open_weights


def build_generator(
    model_dir,
    mesh_device,
    *,
    weights=None,
    tokenizer=None,
    trace=True,
    num_layers=cfg.NUM_LAYERS,
    cache=None,
    progress=None,
):
    """A generator with the weights and the tokenizer of a checkpoint: a folder, a .gguf file or a folder with one.

    `weights` and `tokenizer` are used in place of the checkpoint's, which may then be None; without a tokenizer a generator takes and
    gives token ids. `trace=False` runs every step call by call. `cache`, `progress`: see `open_weights`.
    """
    if tokenizer is None and model_dir is not None:
        try:
            tokenizer = load_tokenizer(model_dir)
        except NoTokenizer:
            tokenizer = None
    if weights is None:
        weights = open_weights(mesh_device, model_dir, cache=cache, progress=progress)
    return Generator(mesh_device, weights, tokenizer, end_tokens(model_dir, tokenizer), trace, num_layers)


@dataclass
class Request:
    """A prompt under way: `generated` are the tokens drawn so far, `logits` those they were drawn from where they are asked for."""

    number: int
    prompt: list
    room: int
    settings: tuple
    seed: int
    generated: list = field(default_factory=list)
    logits: list = field(default_factory=list)
    last: int = 0  # the token that is fed next

    @property
    def position(self):
        """Where the next token that is fed stands."""
        return len(self.prompt) + len(self.generated) - 1

    @property
    def draw_seed(self):
        """What the draw of the next token depends on."""
        return draw_seed(self.seed, self.position + 1)


class Generator:
    """Generates text for up to `max_users` at a time, BATCH at most; more prompts wait until a user leaves."""

    def __init__(self, mesh_device, weights, tokenizer=None, stop_tokens=(), trace=True, num_layers=cfg.NUM_LAYERS):
        self.mesh_device, self.tokenizer, self.stop_tokens = mesh_device, tokenizer, frozenset(stop_tokens)
        self.model = Qwen3ForCausalLM(mesh_device, weights, num_layers=num_layers)
        self.loop = DecodeLoop(self.model, Sampler(mesh_device, weights.at("sampler")), trace)
        self.pool = PagePool()
        self.users = {}
        self.max_users = cfg.BATCH
        self._kv_cache = None

    @property
    def kv_cache(self):
        """The generator's own cache, allocated when it is first used."""
        if self._kv_cache is None:
            self.loop.release()
            self._kv_cache = self.model.allocate_kv_cache()
        return self._kv_cache

    def reset(self):
        """Forget all users. What the cache holds stays, and is never read."""
        self.pool, self.users = PagePool(), {}

    def warm_up_prompts(self, kv_cache):
        """Compile what runs prompts of any length and draws the token behind them; where it is compiled already, capture the chunks."""
        pages = torch.zeros(1, cfg.PAGES_PER_USER, dtype=torch.int32)
        for length in cfg.PREFILL_LENGTHS:
            tokens = torch.zeros(1, min(length, cfg.MAX_SEQ_LEN), dtype=torch.int32)
            for logits, _ in self.run_prompts(
                tokens, page_table=pages, kv_cache=kv_cache, prompt_lens=[tokens.shape[1]]
            ):
                self.loop.read(self.loop.draw_prompt(logits, GREEDY, 1))

    def warm_up_steps(self, kv_cache):
        """Compile a step and the draw behind it; where they are compiled already, capture them, unless the loop runs without traces."""
        idle = torch.full((cfg.BATCH,), -1, dtype=torch.int32)
        self.loop.load(
            torch.zeros_like(idle), idle, torch.zeros(cfg.BATCH, cfg.PAGES_PER_USER, dtype=torch.int32), kv_cache
        )
        self.loop.step()
        self.loop.read(self.loop.draw())

    def warm_up(self, kv_cache=None):
        """Compile all and capture the traces: nothing is compiled, captured or allocated for longer than a call from then on."""
        kv_cache = self.kv_cache if kv_cache is None else kv_cache
        for _ in range(2):
            self.warm_up_prompts(kv_cache)
            self.warm_up_steps(kv_cache)

    def prefill_forward(self, tokens, *, page_table, kv_cache, prompt_lens, start_pos=None, empty_slots=None):
        """Logits of every prompt's last token, [prompts, 1, VOCAB_SIZE], of prompts as `run_prompts` takes them."""
        found = self.run_prompts(
            tokens,
            page_table=page_table,
            kv_cache=kv_cache,
            prompt_lens=prompt_lens,
            start_pos=start_pos,
            empty_slots=empty_slots,
        )
        return torch.stack([self.model.read_rows(logits)[last] for logits, last in found]).unsqueeze(1)

    def run_prompts(self, tokens, *, page_table, kv_cache, prompt_lens, start_pos=None, empty_slots=None):
        """Yields every prompt's logits on the mesh, and the row in them of its last token. The next prompt overwrites them.

        `tokens` [prompts, longest], of which `prompt_lens` count: 1 to MAX_SEQ_LEN. `empty_slots` are the users that the prompts become,
        else the first ones. The cache holds a prompt's first `start_pos` tokens already: any number, also all. They are given all the
        same: a chunk begins at a multiple of its length, and those of them that it holds are run again. Pages full of them are only read.
        `page_table` [prompts, pages] has pages for a prompt's tokens; what it has behind them is neither written nor read.
        A ValueError says what is wrong with the arguments; then nothing has been run.
        """
        count = len(prompt_lens)
        if not count:
            raise ValueError("there are no prompts: prompt_lens is empty")
        lengths = [int(length) for length in prompt_lens]
        starts = [int(start) for start in _for_each("start_pos", 0 if start_pos is None else start_pos, count)]
        users = [
            int(user)
            for user in _for_each("empty_slots", list(range(count)) if empty_slots is None else empty_slots, count)
        ]
        rows, page_table = _for_each("tokens", tokens, count), torch.as_tensor(page_table)
        for number, (row, length, start, user) in enumerate(zip(rows, lengths, starts, users)):
            if not 0 <= length <= len(row):
                raise ValueError(f"prompt {number} has {len(row)} tokens, of which prompt_lens counts {length}")
            _check_prompt(number, row[:length])
            if not 0 <= start <= length:
                raise ValueError(
                    f"prompt {number} has {length} tokens; start_pos says that the cache holds {start} of them"
                )
            if not 0 <= user < cfg.BATCH:
                raise ValueError(f"prompt {number} becomes user {user}; there are users 0 to {cfg.BATCH - 1}")
        check_pages(page_table, torch.tensor(lengths), self.model.pages)
        tables = torch.zeros(count, cfg.BATCH, page_table.shape[1], dtype=torch.int32)
        tables[range(count), users] = page_table.to(torch.int32)
        return (
            self._prefill(torch.as_tensor(row[:length]), user, table, kv_cache, start)
            for row, length, start, user, table in zip(rows, lengths, starts, users, tables)
        )

    def decode_forward(self, tokens, start_pos, *, page_table, kv_cache, read_from_device=True):
        """One step: `tokens` [users] or [users, 1] at `start_pos` [users], -1 for an idle user -> logits [users, 1, VOCAB_SIZE].

        `page_table` [users, pages] has pages for each user's tokens up to this one; what it has behind them does not matter.
        A ValueError says what is wrong with the arguments; then nothing has been run. With `read_from_device=False` the logits stay
        on the mesh: see `read_decode_output`.
        """
        tokens, start_pos = torch.as_tensor(tokens).flatten(), torch.as_tensor(start_pos).flatten()
        users, page_table = tokens.numel(), torch.as_tensor(page_table)
        if not 1 <= users <= cfg.BATCH:
            raise ValueError(f"tokens of {users} users; a step takes 1 to {cfg.BATCH}")
        if start_pos.numel() != users:
            raise ValueError(f"start_pos has {start_pos.numel()} entries for {users} users")
        if not ((start_pos >= -1) & (start_pos < cfg.MAX_SEQ_LEN)).all():
            raise ValueError(
                f"start_pos {start_pos.tolist()}: positions are 0 to {cfg.MAX_SEQ_LEN - 1}, or -1 for an idle user"
            )
        tokens = torch.where(start_pos < 0, 0, tokens)
        if not ((tokens >= 0) & (tokens < cfg.VOCAB_SIZE)).all():
            raise ValueError(f"tokens {tokens.tolist()}: the vocabulary has 0 to {cfg.VOCAB_SIZE - 1}")
        check_pages(page_table, start_pos + 1, self.model.pages)
        self.loop.load(
            _filled(tokens, 0), _filled(start_pos, -1), _filled(own_pages(page_table, start_pos + 1), 0), kv_cache
        )
        logits = self.loop.step()
        return self.read_decode_output(logits)[:users] if read_from_device else logits

    def read_decode_output(self, logits):
        """Logits of a step on the host, [BATCH, 1, VOCAB_SIZE]."""
        return self.model.read_logits(logits).unsqueeze(1)

    def generate(
        self,
        prompt_token_ids,
        max_new_tokens,
        *,
        next_input=None,
        temperature=0.0,
        top_k=None,
        top_p=None,
        seed=None,
        stop_tokens=None,
        return_logits=False,
        on_token=None,
    ):
        """Token ids that continue a prompt, or each of a list of prompts. A prompt is a list or tensor of token ids, or a text, which
        the tokenizer encodes as `encode` does.

        A text ends behind a stop token (default: those of the checkpoint), after `max_new_tokens`, or where the cache of MAX_SEQ_LEN
        tokens is full. `temperature` 0 takes the best token; `temperature`, `top_k`, `top_p`, `seed` may be lists, one entry for each prompt.
        `top_k` is 1 to 32; 0, -1 and None draw from the 32 best. What is drawn depends on a prompt's own seed alone, and on no other prompt;
        of one `seed` for all, prompt n has `seed` + n.
        `next_input` has the tokens that are fed in place of those drawn, as a list for each prompt or a function of
        (prompt, step, token drawn); then stop tokens do not end a text. `return_logits`: also the logits [tokens, VOCAB_SIZE] from
        which each prompt's tokens were drawn. `on_token(prompt, token)` is called for every token as it comes.
        """
        prompts, single = self._token_ids(prompt_token_ids)
        if not hasattr(seed, "__len__"):
            first = random.randrange(1 << 31) if seed is None else seed
            seed = [first + number for number in range(len(prompts))]
        requests = self._requests(prompts, max_new_tokens, seed, temperature=temperature, top_k=top_k, top_p=top_p)
        if next_input is not None and not callable(next_input):
            next_input = _for_each("next_input", [next_input] if single else next_input, len(prompts))
        run = _Run(
            feed=_feeder(next_input),
            stop_tokens=frozenset()
            if next_input is not None
            else self.stop_tokens
            if stop_tokens is None
            else frozenset(stop_tokens),
            keep_logits=return_logits,
            on_token=on_token or (lambda prompt, token: None),
        )
        try:
            self._run(deque(requests), run)
        finally:
            for user in list(self.users):
                self._leave(user)
        tokens = [request.generated for request in requests]
        logits = [torch.stack(request.logits) if request.logits else None for request in requests]
        tokens, logits = (tokens[0], logits[0]) if single else (tokens, logits)
        return (tokens, logits) if return_logits else tokens

    def _token_ids(self, prompts):
        """Prompts as lists of token ids, and whether one was given alone."""
        prompts = _listed(prompts)
        if not isinstance(prompts, (str, list, tuple)):
            raise ValueError(f"a prompt is a text or a list of token ids, not {type(prompts).__name__}")
        single = isinstance(prompts, str) or not prompts or not hasattr(_listed(prompts[0]), "__len__")
        found = []
        for number, prompt in enumerate([prompts] if single else prompts):
            if isinstance(prompt, str) and self.tokenizer is None:
                raise ValueError(f"prompt {number} is a text, but there is no tokenizer: give token ids")
            try:
                found.append(
                    [int(token) for token in (encode(self.tokenizer, prompt) if isinstance(prompt, str) else prompt)]
                )
            except (TypeError, ValueError) as error:
                raise ValueError(f"prompt {number} is neither a text nor a list of token ids: {error}") from error
        return found, single

    def _requests(self, prompts, max_new_tokens, seeds, **sampling):
        seeds = _for_each("seed", seeds, len(prompts))
        columns = [_for_each(name, value, len(prompts)) for name, value in sampling.items()]
        requests = []
        for number, (prompt, seed, *values) in enumerate(zip(prompts, seeds, *columns)):
            _check_prompt(number, prompt)
            room = min(max_new_tokens, cfg.MAX_SEQ_LEN - len(prompt) + 1)  # the last token drawn is never fed
            requests.append(Request(number, prompt, room, sampling_settings(*values), seed))
        return requests

    def _run(self, waiting, run):
        """Let the waiting requests in where a user is free, and step until all have left."""
        waiting = deque(request for request in waiting if request.room > 0)
        while waiting or self.users:
            changed = False
            while waiting and len(self.users) < self.max_users:
                self._join(waiting.popleft(), run)
                changed = True
            if not self.users:
                continue
            if changed or run.changed:
                self._load()
                run.changed = False
            self._step(run)

    def _join(self, request, run):
        """Prefill a prompt and draw its first token."""
        user = next(u for u in range(cfg.BATCH) if u not in self.users)
        self.pool.join(user, len(request.prompt) + request.room)
        self.users[user] = request
        prompt = torch.tensor(request.prompt)
        logits, row = self._prefill(prompt, user, self.pool.table, self.kv_cache)
        if run.keep_logits:
            request.logits.append(self.model.read_rows(logits)[row])
        drawn = self.loop.draw_prompt(logits, request.settings, request.draw_seed)
        self._take(user, self.loop.read(drawn)[row].item(), run)

    def _load(self):
        """Put the users' tokens, positions, pages and sampling on the mesh: after one has joined or left."""
        tokens, positions = torch.zeros(cfg.BATCH, dtype=torch.int32), torch.full((cfg.BATCH,), -1, dtype=torch.int32)
        settings = [sampling_settings()] * cfg.BATCH
        for user, request in self.users.items():
            tokens[user], positions[user], settings[user] = request.last, request.position, request.settings
        self.loop.load(tokens, positions, self.pool.table, self.kv_cache)
        self.loop.load_settings(settings)

    def _step(self, run):
        """One token for every user."""
        logits = self.loop.step()
        rows = self.model.read_logits(logits) if run.keep_logits else None
        if any(request.settings != GREEDY for request in self.users.values()):
            self.loop.load_seeds([self.users[user].draw_seed if user in self.users else 1 for user in range(cfg.BATCH)])
        drawn = self.loop.read(self.loop.draw()).tolist()
        for user, request in list(self.users.items()):
            if run.keep_logits:
                request.logits.append(rows[user])
            self._take(user, drawn[user], run)
        if run.feed and not run.changed:
            tokens = torch.zeros(cfg.BATCH, dtype=torch.int32)
            for user, request in self.users.items():
                tokens[user] = request.last
            self.loop.load_tokens(tokens)

    def _take(self, user, token, run):
        """Add a token that was drawn to a user's text, which may end with it."""
        request = self.users[user]
        fed = run.feed(request.number, len(request.generated), token) if run.feed else token
        request.generated.append(token)
        request.last = fed
        run.on_token(request.number, token)
        if token in run.stop_tokens or len(request.generated) >= request.room:
            self._leave(user)
            run.changed = True

    def _leave(self, user):
        self.pool.leave(user)
        del self.users[user]

    def _prefill(self, tokens, user, page_table, kv_cache, start=0):
        """Run a prompt in chunks, of which the cache holds `start` tokens: logits of the last one's last tile, and the row in it of the last token."""
        for first, length in chunks(start, tokens.numel()):
            chunk = tokens[first : first + length]
            inputs = self.model.host_prefill_inputs(chunk, first, user, page_table, start)
            logits = self.loop.chunk(length, inputs, kv_cache)
        return logits, (chunk.numel() - 1) % ttnn.TILE_SIZE


@dataclass
class _Run:
    """What a call of `generate` asks for; `changed`: a user has left since the loop was loaded."""

    feed: object
    stop_tokens: frozenset
    keep_logits: bool
    on_token: object
    changed: bool = False


def chunks(start, count):
    """(first token, length) of the chunks in which the tokens from `start` to `count` are run, the last token in any case.

    A chunk begins at a multiple of its own length, the first one at or before `start`. A long one is used where at least half of it is filled,
    one of WHOLE_PROMPT_LENGTHS where the first chunk begins the prompt, too.
    """
    shortest = min(cfg.PREFILL_LENGTHS)
    first = min(start, count - 1) // shortest * shortest
    lengths = [n for n in cfg.PREFILL_LENGTHS if first == 0 or n not in cfg.WHOLE_PROMPT_LENGTHS]
    found = []
    while first < count:
        fitting = [n for n in lengths if first % n == 0 and 2 * (count - first) >= n]
        found.append((first, max(fitting, default=shortest)))
        first += found[-1][1]
    return found


def _feeder(next_input):
    """`next_input` as a function of (prompt, step, token drawn)."""
    if next_input is None or callable(next_input):
        return next_input

    def feed(prompt, step, token):
        return next_input[prompt][step] if step < len(next_input[prompt]) else token

    return feed


def _filled(tensor, idle):
    """[users, ...] -> [BATCH, ...]."""
    rows = torch.full((cfg.BATCH - tensor.shape[0], *tensor.shape[1:]), idle, dtype=tensor.dtype)
    return torch.cat([tensor, rows])


def _check_prompt(number, prompt):
    if not 1 <= len(prompt) <= cfg.MAX_SEQ_LEN:
        raise ValueError(f"prompt {number} has {len(prompt)} tokens; the cache takes 1 to {cfg.MAX_SEQ_LEN}")
    if not all(0 <= token < cfg.VOCAB_SIZE for token in prompt):
        raise ValueError(f"prompt {number} has tokens outside the vocabulary of {cfg.VOCAB_SIZE}")


def _for_each(name, value, count):
    """A list with an entry for each of `count` prompts; what is no list counts for all of them."""
    value = _listed(value)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries for {count} prompts")
    return value


def _listed(value):
    """A tensor or an array as a list."""
    return value.tolist() if hasattr(value, "tolist") else value
