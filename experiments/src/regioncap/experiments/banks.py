"""The two keyword banks of a study: words of its training captions, embedded by the CLIP-style text tower."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from regioncap.encoders import ClipText, ImageTextHead, TextEncoder
from regioncap.guidance import KeywordBank, detail_words, scene_words


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordBanksConfig:
    """Which words of the training captions enter the banks."""

    min_count: int = 10
    """Words seen less often stay out."""
    max_scene: int = 300
    """Most words of the scene bank (places, light, weather, activities), the most frequent first."""
    max_detail: int = 1000
    """Most words of the detail bank (objects, attributes, colours)."""

    def __post_init__(self) -> None:
        for name in ("min_count", "max_scene", "max_detail"):
            if getattr(self, name) < 1:
                raise ValueError(f"banks.{name} must be at least 1, got {getattr(self, name)}")


def build_banks(
    config: KeywordBanksConfig, captions: Sequence[str], text: TextEncoder | ClipText, head: ImageTextHead
) -> tuple[KeywordBank, KeywordBank]:
    """The scene and the detail bank of these training captions. Raises BankError if no word is left."""

    def encode(words: Sequence[str]) -> Float[Tensor, "W D"]:
        embedded: Tensor = head.embed_text(text.embed(words))
        return embedded

    return (
        KeywordBank.embed(scene_words(captions, min_count=config.min_count, limit=config.max_scene), encode),
        KeywordBank.embed(detail_words(captions, min_count=config.min_count, limit=config.max_detail), encode),
    )
