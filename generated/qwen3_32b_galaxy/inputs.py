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


def chunk_starts(start, length):
    """Where the tokens begin that each group of chips attends for, of a chunk whose tokens these divide, [4]."""
    return torch.arange(start, start + length, length // 4)


def prefill_hidden(tensor, length):
    """[1, tokens, size] -> [1, 1, length, size], padded."""
    return F.pad(tensor, (0, 0, 0, length - tensor.shape[1])).unsqueeze(0)


def last_pages(counts):
    """The column of the page table with the last of a user's `counts` tokens, [users]; 0 without tokens."""
    return (counts.long() - 1).clamp(min=0) // cfg.PAGE_SIZE


def check_pages(page_table, counts, pages=cfg.PAGES_PER_GROUP):
    """Raises ValueError unless each row has some of a cache's `pages` for the user's `counts` tokens. What stands behind these may be anything."""
    if page_table.dim() != 2 or page_table.shape[0] != counts.numel():
        raise ValueError(f"the page table is {list(page_table.shape)}, wanted is [{counts.numel()} users, pages]")
    width, last = page_table.shape[1], last_pages(counts).unsqueeze(1)
    if last.max() >= width:
        raise ValueError(
            f"the page table has {width} columns, {int(last.max()) + 1} are needed: a page has {cfg.PAGE_SIZE} tokens"
        )
    own = page_table[(torch.arange(width) <= last) & (counts.unsqueeze(1) > 0)]
    if not ((own >= 0) & (own < pages)).all():
        raise ValueError(
            f"the page table gives a user's tokens the pages {own.tolist()}; there are pages 0 to {pages - 1}"
        )


def own_pages(page_table, counts):
    """The pages of users with `counts` tokens, [users, PAGES_PER_USER]; those of an idle user are 0.

    The columns behind a user's own pages repeat the last of them, whatever stands there: attention reads more pages than it needs.
    """
    columns = torch.arange(cfg.PAGES_PER_USER).minimum(last_pages(counts).unsqueeze(1))
    return torch.where(counts.unsqueeze(1) > 0, page_table.gather(1, columns), 0)


def pages_of_groups(page_table, user, end, pages=cfg.PAGES_PER_GROUP):
    """[USER_GROUPS, PAGES_PER_USER]: the pages of a user's `end` tokens for the chips that attend for it, spare pages for the others.

    A group's cache has so many `pages` for its users, and the spare ones behind them.
    """
    spare = torch.arange(pages, pages + cfg.PAGES_PER_USER)
    table = spare.repeat(cfg.USER_GROUPS, 1)
    table[user // cfg.USERS_PER_GROUP] = own_pages(page_table[user : user + 1], torch.tensor([end]))
    return table.to(torch.int32)


def prefill_page_table(page_table, user, end, pages=cfg.PAGES_PER_GROUP):
    """The pages that a chunk attends to, padded to the multiple of 8 that attention wants: positions in the padding are never seen."""
    return F.pad(pages_of_groups(page_table, user, end, pages), (0, -cfg.PAGES_PER_USER % 8))


def pages_of_chunk(page_table, user, start, length, end, cached, pages=cfg.PAGES_PER_GROUP):
    """The pages that a chunk writes, [USER_GROUPS, pages]; -1, which is skipped, for those behind the last token and for the user's own that
    are full of `cached` tokens."""
    columns = torch.arange(start // cfg.PAGE_SIZE, -(-(start + length) // cfg.PAGE_SIZE))
    spare = torch.arange(cfg.USER_GROUPS).unsqueeze(1) != user // cfg.USERS_PER_GROUP
    written = (spare | (columns >= cached // cfg.PAGE_SIZE)) & (columns * cfg.PAGE_SIZE < end)
    return torch.where(
        written, pages_of_groups(page_table, user, end, pages)[:, columns.clamp(max=cfg.PAGES_PER_USER - 1)], -1
    )


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
