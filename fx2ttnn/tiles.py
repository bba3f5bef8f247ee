"""The unit in which chips hold matrices."""

TILE = 32  # rows and columns


def tiles(size: int) -> int:
    """`size` in tiles, rounded up."""
    return -(-size // TILE)
