"""Which pages of the KV cache belong to which user."""

import torch

from . import model_config as cfg


class OutOfPages(RuntimeError):
    """The chips that attend for a user have too few free pages."""


class PagePool:
    """Hands out the pages of each group of chips; `table` [BATCH, PAGES_PER_USER] is the page table of the users that have some.

    A group's spare pages (see model_config.py) are never handed out.
    """

    def __init__(self):
        self.free = [list(range(cfg.PAGES_PER_GROUP)) for _ in range(cfg.USER_GROUPS)]
        self.held = {}
        self.table = torch.zeros(cfg.BATCH, cfg.PAGES_PER_USER, dtype=torch.int32)

    def join(self, user, tokens):
        """Give a user pages for so many tokens. The rest of its row repeats the last page: no token of these positions is ever read."""
        count = min(-(-tokens // cfg.PAGE_SIZE), cfg.PAGES_PER_USER)
        free = self.free[user // cfg.USERS_PER_GROUP]
        if user in self.held:
            raise ValueError(f"user {user} has pages already")
        if count > len(free):
            raise OutOfPages(f"user {user} needs {count} pages, {len(free)} are free")
        pages = [free.pop(0) for _ in range(count)]
        self.held[user] = pages
        self.table[user] = torch.tensor(pages + pages[-1:] * (cfg.PAGES_PER_USER - count))

    def leave(self, user):
        """Take back the pages of a user."""
        self.free[user // cfg.USERS_PER_GROUP] += self.held.pop(user)
        self.table[user] = 0
