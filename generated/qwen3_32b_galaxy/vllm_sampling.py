"""How the next token of a request is to be drawn: on the mesh where that gives what vLLM asks for, else from its logits on the host."""

import random
from dataclasses import dataclass

import torch

from .decode_loop import GREEDY, MAX_TOP_K, draw_seed, sampling_settings


@dataclass(frozen=True)
class Draw:
    """The sampling parameters of a request. Without a `seed` it has one by chance. `log_prob`: the drawn token's is wanted, too."""

    temperature: float = 0.0
    top_k: int = 1
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    log_prob: bool = False

    @classmethod
    def of(cls, params, row):
        """That of a row of the plugin's parameters, whose fields are lists, one value for all rows, or None."""

        def found(name, default):
            values = getattr(params, name, None)
            value = values[row] if isinstance(values, list) else values
            return default if value is None else value

        names = ("temperature", "top_k", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
        given = {name: found(name, getattr(cls, name)) for name in names}
        return cls(**given, seed=found("seed", random.getrandbits(63)), log_prob=bool(found("enable_log_probs", False)))

    @property
    def penalised(self):
        return (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0.0, 0.0, 1.0)

    @property
    def on_mesh(self):
        """Whether the mesh gives exactly that: it draws from MAX_TOP_K tokens at most, and knows no penalties."""
        return not self.penalised and (self.temperature == 0 or 1 <= self.top_k <= MAX_TOP_K)

    @property
    def settings(self):
        """Those of the sampler on the mesh; what it draws where the token is drawn on the host is not used."""
        if self.temperature == 0 or not self.on_mesh:
            return GREEDY
        return sampling_settings(self.temperature, self.top_k, self.top_p)

    def seed_of(self, position):
        """What the draw of the token at `position` depends on."""
        return draw_seed(self.seed, position)

    def choose(self, logits, position, prompt=(), output=()):
        """The token at `position`, drawn on the host from its `logits` [VOCAB_SIZE]. `prompt`, `output`: the tokens before it, -1 for none."""
        scores = self._penalise(logits, prompt, output) if self.penalised else logits
        if self.temperature == 0:
            return scores.argmax().item()
        scores, tokens = (scores / self.temperature).topk(
            self.top_k if 1 <= self.top_k < scores.numel() else scores.numel()
        )
        chances = scores.softmax(-1)
        before = chances.cumsum(-1) - chances
        chances[1:][before[1:] >= self.top_p] = 0
        generator = torch.Generator().manual_seed(self.seed_of(position))
        return tokens[torch.multinomial(chances, 1, generator=generator)].item()

    def _penalise(self, logits, prompt, output):
        counts, seen = (
            torch.bincount(_tokens(texts), minlength=logits.numel()) for texts in ([output], [prompt, output])
        )
        scores = torch.where(logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty)
        scores = torch.where(seen > 0, scores, logits)
        return scores - self.frequency_penalty * counts - self.presence_penalty * (counts > 0)


def _tokens(texts):
    tokens = torch.cat([torch.as_tensor(text, dtype=torch.int64).flatten() for text in texts])
    return tokens[tokens >= 0]
