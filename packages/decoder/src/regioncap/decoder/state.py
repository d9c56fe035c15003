"""What a decoder remembers between two steps of a search."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderState:
    """Keys and values per layer: of each image's prefix once, and of what each row has said since.

    State in, state out: no operation changes a tensor that an older state holds.
    B images, S prefix slots with bos, R = B * beams rows in image order, t tokens said.
    """

    prefix_keys: tuple[Float[Tensor, "B heads S d"], ...]
    prefix_values: tuple[Float[Tensor, "B heads S d"], ...]
    seen: Bool[Tensor, "B S"]
    """Which prefix slots are real."""
    keys: tuple[Float[Tensor, "R heads t d"], ...]
    values: tuple[Float[Tensor, "R heads t d"], ...]
    added: Float[Tensor, "B H"] | None = None
    """Joins the embedding of every token of an image's rows; None adds nothing."""

    @classmethod
    def start(
        cls,
        keys: tuple[Float[Tensor, "B heads S d"], ...],
        values: tuple[Float[Tensor, "B heads S d"], ...],
        seen: Bool[Tensor, "B S"],
        added: Float[Tensor, "B H"] | None = None,
    ) -> "DecoderState":
        """One row per image, nothing said yet."""
        return cls(
            prefix_keys=keys,
            prefix_values=values,
            seen=seen,
            keys=tuple(k[:, :, :0] for k in keys),
            values=tuple(v[:, :, :0] for v in values),
            added=added,
        )

    def next_positions(self) -> Int[Tensor, " R"]:
        """Position of the next token of each row."""
        rows, said = self.keys[0].shape[0], self.keys[0].shape[2]
        return (self.seen.sum(1) + said).repeat_interleave(rows // self.seen.shape[0])

    def added_of_rows(self) -> Float[Tensor, "R H"] | None:
        """What is added to the next token of each row."""
        if self.added is None:
            return None
        return self.added.repeat_interleave(self.keys[0].shape[0] // self.seen.shape[0], 0)

    def grown(
        self, keys: tuple[Float[Tensor, "R heads u d"], ...], values: tuple[Float[Tensor, "R heads u d"], ...]
    ) -> "DecoderState":
        """The same prefix with longer rows."""
        return replace(self, keys=keys, values=values)

    def rows(self, chosen: Int[Tensor, " Q"]) -> "DecoderState":
        """Go on from the `chosen` rows: the same number for each image, in image order."""
        return replace(
            self,
            keys=tuple(k.index_select(0, chosen) for k in self.keys),
            values=tuple(v.index_select(0, chosen) for v in self.values),
        )

    def images(self, chosen: Int[Tensor, " A"]) -> "DecoderState":
        """Keep the prefixes of the `chosen` images; their rows are the caller's to choose with `rows`."""
        return replace(
            self,
            prefix_keys=tuple(k.index_select(0, chosen) for k in self.prefix_keys),
            prefix_values=tuple(v.index_select(0, chosen) for v in self.prefix_values),
            seen=self.seen.index_select(0, chosen),
            added=None if self.added is None else self.added.index_select(0, chosen),
        )
