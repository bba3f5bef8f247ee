"""Which tokens the sampler chooses from logits that are all far below zero: a column of padding, were it ever chosen, would show."""

import torch
import ttnn

from ... import model_config as cfg
from ...decode_loop import GREEDY, begin_chance, draw_seed, host_chance, host_settings, sampling_settings
from ...mesh import from_mesh, to_mesh
from ...sampling import Sampler
from ...weights import Weights


def test_greedy(mesh_device):
    """The token with the highest logit, for every row; of equal ones any."""
    logits = _logits()
    tokens = _draw(mesh_device, logits, [GREEDY] * cfg.ROWS)
    assert torch.equal(_of(logits, tokens), logits.amax(-1))


def test_top_k(mesh_device):
    """None but the k best, a different k for every row."""
    logits = _logits()
    settings = [sampling_settings(1.0, top_k=row % 32 + 1) for row in range(cfg.ROWS)]
    tokens = _draw(mesh_device, logits, settings, seed=1)
    assert all(found >= row.topk(k).values[-1] for found, row, (k, _, _) in zip(_of(logits, tokens), logits, settings))


def test_top_p(mesh_device):
    """None whose better tokens have the mass p already."""
    logits, p = 4 * _logits(), 0.5
    tokens = _draw(mesh_device, logits, [sampling_settings(1.0, top_p=p)] * cfg.ROWS, seed=1)
    for found, row in zip(_of(logits, tokens), logits.float()):
        best = row.topk(32).values
        assert best.softmax(-1)[best > found].sum() <= p + 0.01


def test_seed(mesh_device):
    """The same seed draws the same tokens, another one others."""
    logits, settings = _logits(), [sampling_settings(1.0)] * cfg.ROWS
    first, again, other = (_draw(mesh_device, logits, settings, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.unique().numel() > 1


def test_temperature(mesh_device):
    """The best of eight tokens is drawn as often as the temperature says, of rows with two temperatures."""
    logits, temperatures, draws = torch.full((cfg.ROWS, cfg.VOCAB_SIZE), -50.0).bfloat16(), torch.tensor([0.5, 2.0]), 4
    logits[:, :8], logits[:, 3] = -12, -10
    settings = [sampling_settings(temperatures[row % 2].item()) for row in range(cfg.ROWS)]
    drawn = torch.stack([_draw(mesh_device, logits, settings, seed) for seed in range(draws)]) == 3
    for number, temperature in enumerate(temperatures):
        expected = (logits[0].float() / temperature).softmax(-1)[3]
        assert abs(drawn[:, number::2].float().mean() - expected) < 0.2  # 0.89 and 0.28; at least 3 standard deviations


def test_rows_draw_for_themselves(mesh_device):
    """Of rows with equal logits those with the same seed draw the same token, wherever they are, and those with others others."""
    logits = torch.full((cfg.ROWS, cfg.VOCAB_SIZE), -50.0).bfloat16()
    logits[:, :16] = -10
    seeds = [draw_seed(7, row % 8) for row in range(cfg.ROWS)]
    drawn = _draw(mesh_device, logits, [sampling_settings(1.0)] * cfg.ROWS, seeds=seeds).unflatten(0, (-1, 8))
    assert torch.equal(drawn, drawn[:1].expand_as(drawn))
    assert drawn.unique().numel() > 1


def _logits():
    torch.manual_seed(0)
    return torch.randn(cfg.ROWS, cfg.VOCAB_SIZE).bfloat16() - 50


def _draw(mesh_device, logits, settings, seed=0, seeds=None):
    """The tokens that the mesh draws, [ROWS]: each row by `seed` and its number, or by its own of `seeds`."""
    sampler = Sampler(mesh_device, Weights(mesh_device, {}).at("sampler"))
    placed = to_mesh(mesh_device, logits[None, None], (3, 3), ttnn.bfloat16, memory_config=cfg.LM_HEAD_MEMORY)
    given = {name: ttnn.to_device(tensor, mesh_device) for name, tensor in host_settings(mesh_device, settings).items()}
    chance = host_chance(mesh_device, seeds or [draw_seed(seed, row) for row in range(cfg.ROWS)])
    begin_chance(**{name: ttnn.to_device(tensor, mesh_device) for name, tensor in chance.items()})
    return from_mesh(mesh_device, sampler.sample_forward(placed, **given), (None, None)).flatten().to(torch.int64)


def _of(logits, tokens):
    return logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
