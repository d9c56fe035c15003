"""What a decoder remembers between two steps of a search."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.decoder.word_bias import Unsaid

_ROOM = 64
"""Least number of empty slots in a new cache."""


class KeyValueCache:
    """Keys and values of every layer, in buffers with room behind the slots that are filled.

    B images, S slots. All rows of an image share one axis of slots; which row hears which is the state's to know.
    """

    def __init__(
        self,
        keys: tuple[Float[Tensor, "B heads S d"], ...],
        values: tuple[Float[Tensor, "B heads S d"], ...],
        room: int = _ROOM,
    ) -> None:
        self.filled = keys[0].shape[2]
        self.keys, self.values = (tuple(F.pad(x, (0, 0, 0, room)) for x in part) for part in (keys, values))

    def with_room(self, filled: int, more: int) -> "KeyValueCache":
        """A cache in which `more` slots can be written behind the first `filled`.

        It is this one, unless another line of the search has written there already, or its room is used up.
        """
        if filled == self.filled and filled + more <= self.keys[0].shape[2]:
            return self
        keys, values = (tuple(x[:, :, :filled] for x in part) for part in (self.keys, self.values))
        return KeyValueCache(keys, values, room=max(_ROOM, filled, more))

    def images(self, chosen: Int[Tensor, " A"], filled: int) -> "KeyValueCache":
        """The slots of some of the images."""
        return KeyValueCache(
            tuple(k[:, :, :filled].index_select(0, chosen) for k in self.keys),
            tuple(v[:, :, :filled].index_select(0, chosen) for v in self.values),
        )

    def write(
        self, layer: int, at: int, keys: Float[Tensor, "B heads k d"], values: Float[Tensor, "B heads k d"]
    ) -> tuple[Float[Tensor, "B heads S d"], Float[Tensor, "B heads S d"]]:
        """Put a layer's new slots behind the first `at`, and return all that are there now."""
        end = at + keys.shape[2]
        self.keys[layer][:, :, at:end] = keys
        self.values[layer][:, :, at:end] = values
        self.filled = end
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderState:
    """Where each row of a search stands: what it hears of its image's slots, and how far it is.

    The slots of an image are its prefix, then whatever its rows have said, a slot each: a tree, of which a row hears
    one branch. Beams that go on from the same words share their keys and values, and choosing beams moves none.
    State in, state out: no operation changes what an older state hears. B images, R rows in image order, as many of
    each image, S slots.
    """

    cache: KeyValueCache
    heard: Bool[Tensor, "R S"]
    """Which slots a row hears: of the prefix those that are real, and its own words."""
    length: Int[Tensor, " B"]
    """Real slots of each image's prefix, bos and prompt among them."""
    said: int
    """Words that every row has said."""
    added: Float[Tensor, "B H"] | None = None
    """Joins the embedding of every token of an image's rows; None adds nothing."""
    unsaid: Unsaid | None = None
    """What is known of the words that come next; None is nothing."""

    @classmethod
    def start(
        cls,
        keys: tuple[Float[Tensor, "B heads S d"], ...],
        values: tuple[Float[Tensor, "B heads S d"], ...],
        seen: Bool[Tensor, "B S"],
        added: Float[Tensor, "B H"] | None = None,
        unsaid: Unsaid | None = None,
    ) -> "DecoderState":
        """One row per image, nothing said yet; `seen` are the real slots of the prefixes."""
        return cls(
            cache=KeyValueCache(keys, values), heard=seen, length=seen.sum(1), said=0, added=added, unsaid=unsaid
        )

    @property
    def rows_per_image(self) -> int:
        """R / B."""
        return len(self.heard) // max(len(self.length), 1)

    def next_positions(self) -> Int[Tensor, " R"]:
        """Position of the next token of each row."""
        return (self.length + self.said).repeat_interleave(self.rows_per_image)

    def added_of_rows(self) -> Float[Tensor, "R H"] | None:
        """What is added to the next token of each row."""
        return None if self.added is None else self.added.repeat_interleave(self.rows_per_image, 0)

    def grown(self) -> "DecoderState":
        """A word further: every row hears its own new slot too. The cache has room for the slots then."""
        slots = self.heard.shape[1]
        own = torch.eye(self.rows_per_image, dtype=torch.bool, device=self.heard.device).repeat(len(self.length), 1)
        return replace(
            self,
            cache=self.cache.with_room(slots, self.rows_per_image),
            heard=torch.cat([self.heard, own], dim=1),
            said=self.said + 1,
        )

    def rows(self, chosen: Int[Tensor, " Q"]) -> "DecoderState":
        """Go on from the `chosen` rows: the same number for each image, in image order."""
        unsaid = None if self.unsaid is None else self.unsaid.rows(chosen)
        return replace(self, heard=self.heard.index_select(0, chosen), unsaid=unsaid)

    def images(self, chosen: Int[Tensor, " A"]) -> "DecoderState":
        """Keep the slots of the `chosen` images; their rows are the caller's to choose with `rows`."""
        return replace(
            self,
            cache=self.cache.images(chosen, self.heard.shape[1]),
            length=self.length.index_select(0, chosen),
            added=None if self.added is None else self.added.index_select(0, chosen),
            unsaid=None if self.unsaid is None else self.unsaid.images(chosen),
        )
