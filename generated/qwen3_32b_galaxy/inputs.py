"""Host tensors of a step's inputs, in the form in which the steps take them, before they go to the mesh."""

import torch
import torch.nn.functional as F

from . import model_config as cfg


def decode_rows(tensor, idle):
    """[users, ...] -> [ROWS, ...]: the rows beyond the users get the value `idle`."""
    rows = torch.full((cfg.ROWS - tensor.shape[0], *tensor.shape[1:]), idle, dtype=tensor.dtype)
    return torch.cat([tensor, rows])


def decode_tokens(tensor):
    """[users] -> [1, 1, 1, ROWS], the form in which token ids and positions enter the decode step."""
    return decode_rows(tensor.flatten(), 0).reshape(1, 1, 1, -1).to(torch.int32)


def decode_hidden(tensor):
    """[users, 1, size] -> [1, 1, ROWS, size], the form of a hidden state in the decode step."""
    return decode_rows(tensor, 0).transpose(0, 1).unsqueeze(0)


def prefill_length(count):
    """The shortest chunk that holds `count` tokens; raises ValueError where none does."""
    fitting = [length for length in cfg.PREFILL_LENGTHS if length >= count]
    if not fitting:
        raise ValueError(f"{count} tokens are more than a chunk of {max(cfg.PREFILL_LENGTHS)}: split the prompt")
    return min(fitting)


def prefill_tokens(tokens, length):
    """[tokens] -> [1, 1, 1, length], padded."""
    return F.pad(tokens, (0, length - tokens.numel())).reshape(1, 1, 1, -1).to(torch.int32)


def prefill_positions(start, length):
    """Positions of a chunk, [1, 1, 1, length]; those of padding stay within the tables."""
    return torch.arange(start, start + length).clamp(max=cfg.MAX_SEQ_LEN - 1).reshape(1, 1, 1, -1).to(torch.int32)


def prefill_hidden(tensor, length):
    """[1, tokens, size] -> [1, 1, length, size], padded."""
    return F.pad(tensor, (0, 0, 0, length - tensor.shape[1])).unsqueeze(0)


def pages_of_groups(page_table, user):
    """[USER_GROUPS, PAGES_PER_USER]: the user's pages for the chips that attend for it, spare pages for the others."""
    users = min(cfg.BATCH, cfg.USERS_PER_GROUP)
    spare = torch.arange(users * cfg.PAGES_PER_USER, (users + 1) * cfg.PAGES_PER_USER)
    pages = spare.repeat(cfg.USER_GROUPS, 1)
    pages[user // cfg.USERS_PER_GROUP] = page_table[user]
    return pages.to(torch.int32)


def prefill_page_table(page_table, user):
    """All pages of a user, padded to the multiple of 8 that attention wants: positions in the padding are never seen."""
    return F.pad(pages_of_groups(page_table, user), (0, -cfg.PAGES_PER_USER % 8))


def pages_of_chunk(page_table, user, start, length):
    """The pages of a chunk, [USER_GROUPS, pages]; -1, which is skipped, where padding reaches beyond the last page."""
    first, count = start // cfg.PAGE_SIZE, -(-length // cfg.PAGE_SIZE)
    pages = pages_of_groups(page_table, user)[:, first : first + count]
    return F.pad(pages, (0, count - pages.shape[1]), value=-1)


def rows_of_pages(page_table, kv_heads):
    """Pages of users [users, pages] -> where the cache, as rows of one token of one kv head, has theirs: [users * kv_heads, positions]."""
    first = (page_table[:, None, :, None] * kv_heads + torch.arange(kv_heads)[:, None, None]) * cfg.PAGE_SIZE
    return (first + torch.arange(cfg.PAGE_SIZE)).flatten(0, 1).flatten(1).to(torch.int32)


def all_positions():
    """Every position that a user's pages have room for, [1, 1, 1, positions]."""
    return torch.arange(cfg.PAGES_PER_USER * cfg.PAGE_SIZE).reshape(1, 1, 1, -1).float()


def last_tile(tokens):
    """Where the tile of rows with the last token begins, [4]."""
    row = (tokens.numel() - 1) // 32 * 32
    return torch.tensor([0, 0, row, 0])
