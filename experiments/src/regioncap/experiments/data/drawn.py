"""Random splits that anybody can draw again: they depend on the names and the seed, and on nothing else."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def drawn_order(names: Sequence[str], seed: int) -> list[str]:
    """The names in an order drawn by `seed`: by SHA-256 of seed and name.

    The order of `names`, the file system and the version of a random number generator have no say, and a picture that
    is added moves no other.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
