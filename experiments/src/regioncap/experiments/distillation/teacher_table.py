"""What the teacher would say next at every place of every training caption: asked once, for any number of students."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.encoders import arithmetic
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.distillation.targets import Targets
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.progress import track

_BATCH = 25
_DONE = "done.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherTable:
    """The teacher's likeliest words after each token, memory-mapped. N tokens in all, k words each.

    6 k bytes per token: 68 MB for the 30,000 captions of Flickr8k at k = 32.
    """

    words: np.ndarray  # N k
    shares: np.ndarray  # N k
    starts: Int[Tensor, "n C"]
    """Row of the first token of each caption."""

    def at(
        self, rows: Int[Tensor, " B"], columns: Int[Tensor, "B C2"], real: Bool[Tensor, "B C2 L"]
    ) -> tuple[Int[Tensor, "B C2 L k"], Float[Tensor, "B C2 L k"]]:
        """Words and softened probabilities of these captions of these images; of no use where not `real`."""
        first = self.starts[rows[:, None], columns]  # B C2
        place = (first[..., None] + torch.arange(real.shape[2])) * real
        at = place.numpy()
        return torch.from_numpy(self.words[at].astype(np.int64)), torch.from_numpy(self.shares[at].astype(np.float32))


def make_table(
    teacher: Captioner, prepared: Prepared, targets: Targets, *, temperature: float, top: int, folder: Path
) -> TeacherTable:
    """Ask the teacher about every token of `targets`, or open what an earlier call wrote to `folder`.

    Images are seen as in the teacher's training, with their cross-fit offset; dropout is off. The folder is renamed
    into place when complete.
    """
    if not (folder / _DONE).exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(teacher.eval(), prepared, targets, temperature, top, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("words", "shares")}
    return TeacherTable(starts=_starts(targets), **arrays)


def _write(
    teacher: Captioner, prepared: Prepared, targets: Targets, temperature: float, top: int, folder: Path
) -> None:
    total, words = int(targets.mask[..., 1:].sum()), min(top, teacher.decoder.vocab_size)
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(total, words))
        for name, dtype in (("words", np.int32), ("shares", np.float16))
    }
    parts = torch.arange(len(targets.tokens)).split(_BATCH)
    done = 0
    for rows in track(parts, description="teacher's words", total=len(parts)):
        real = targets.mask[rows][..., 1:]
        with torch.inference_mode(), arithmetic("cpu", "bfloat16"):
            prefix = teacher.condition(*prepared.seen(rows)).prefix
            logits = teacher.decoder(
                prefix.embeddings, prefix.valid, targets.tokens[rows][..., :-1], real, prefix.added, prefix.bias
            )
        shares, likely = (logits[real].float() / temperature).softmax(-1).topk(words)
        arrays["words"][done : done + len(likely)] = likely.numpy()
        arrays["shares"][done : done + len(likely)] = shares.numpy()
        done += len(likely)
    assert done == total
    for array in arrays.values():
        array.flush()
    (folder / _DONE).write_text(json.dumps({"tokens": total, "words": words, "temperature": temperature}))


def _starts(targets: Targets) -> Int[Tensor, "n C"]:
    """Captions lie one behind the other, image by image, each as long as its real tokens after bos."""
    lengths = targets.mask[..., 1:].sum(-1).flatten()
    return (lengths.cumsum(0) - lengths).view(targets.tokens.shape[:2])
