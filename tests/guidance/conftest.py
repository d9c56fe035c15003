from collections.abc import Callable

import pytest
import torch

from regioncap.guidance import KeywordBank


@pytest.fixture
def make_bank() -> Callable[[int, int], KeywordBank]:
    """A bank of so many words and such a width, always the same for the same size."""

    def make(words: int, width: int) -> KeywordBank:
        generator = torch.Generator().manual_seed(words)
        return KeywordBank(
            words=tuple(f"word{row}" for row in range(words)),
            counts=tuple(range(words, 0, -1)),
            embeddings=torch.randn(words, width, generator=generator),
        )

    return make
