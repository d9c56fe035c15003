"""What a student learns to say: the captions people wrote, the teacher's own captions of the same images, or both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from regioncap.decoder import SearchConfig
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.progress import track

TargetKind = Literal["captions", "teacher", "both"]
_BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Captions to learn from, bos and eos included. n training images, C captions each, T tokens."""

    tokens: Int[Tensor, "n C T"]
    mask: Bool[Tensor, "n C T"]

    def with_others(self, others: "Targets") -> "Targets":
        """The captions of both for every image."""
        longest = max(self.tokens.shape[2], others.tokens.shape[2])
        tokens, masks = (
            torch.cat([F.pad(x, (0, longest - x.shape[2])) for x in pair], 1)
            for pair in ((self.tokens, others.tokens), (self.mask, others.mask))
        )
        return Targets(tokens=tokens, mask=masks)


def make_targets(
    kind: TargetKind, teacher: Captioner, prepared: Prepared, search: SearchConfig, folder: Path
) -> Targets:
    """The targets of this kind. The teacher's captions, where wanted, are kept in `folder` and read from it again."""
    written = Targets(tokens=prepared.captions.tokens, mask=prepared.captions.mask)
    if kind == "captions":
        return written
    file = folder / "teacher_captions.safetensors"
    if not file.exists():
        said = teacher_captions(teacher, prepared, search)
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        save_file({"tokens": said.tokens, "mask": said.mask}, partial)
        partial.rename(file)
    own = Targets(**load_file(file))
    return own if kind == "teacher" else written.with_others(own)


def teacher_captions(teacher: Captioner, prepared: Prepared, search: SearchConfig) -> Targets:
    """The teacher's caption of every training image, seen as in its training: with the cross-fit offset.

    A caption that the search cut at its greatest length ends without eos: a cut is no place to end.
    """
    parts = torch.arange(len(prepared.train)).split(_BATCH)
    generator = CaptionGenerator(teacher.eval(), prepared.tokenizer, search)
    found = []
    for rows in track(parts, description="teacher's captions", total=len(parts)):
        with torch.inference_mode():
            prefix = teacher.condition(*prepared.seen(rows)).prefix
        found.append(generator.from_prefix(prefix, [prepared.train.names[row] for row in rows])[0])
    longest = max(captions.tokens.shape[2] for captions in found)
    said = torch.cat([F.pad(each.tokens[:, 0], (0, longest - each.tokens.shape[2])) for each in found])  # n T
    lengths = torch.cat([captions.lengths[:, 0] for captions in found])
    tokens = F.pad(said, (1, 0), value=prepared.tokenizer.bos)
    mask = torch.arange(tokens.shape[1]) <= lengths[:, None]
    return Targets(tokens=(tokens * mask)[:, None].contiguous(), mask=mask[:, None].contiguous())
