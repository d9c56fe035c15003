"""CLIPScore and RefCLIPScore: how well captions fit pictures in the eyes of a CLIP (Hessel et al. 2021, 2104.08718)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from regioncap.encoders import ClipEncoder
from regioncap.experiments.metrics.measures import Measures
from regioncap.experiments.progress import track

_WEIGHT = 2.5
"""w of the paper: it stretches the cosines of CLIP ViT-B/32 to about [0, 1]."""
_PROMPT = "A photo depicts "
"""What the paper has before every caption, the references among them."""
_PLACES = "position_embedding.weight"
_TEXTS_AT_ONCE = 2000
"""Texts between two moves of the progress bar."""


class ClipScore:
    """How well captions fit pictures, by a CLIP that has seen neither references nor captioner.

        CLIPScore(c, v) = 2.5 max(cos(c, v), 0)
        RefCLIPScore(c, R, v) = harmonic mean of CLIPScore(c, v) and max(max_{r in R} cos(c, r), 0)

    Scores of a set are means over its images. Values by two CLIPs cannot be compared; the paper's are by CLIP
    ViT-B/32. Vectors of pictures and references are kept for the next captions of the same pictures: 2 KB a text.
    I images, L texts, D channels.
    """

    def __init__(self, judge: ClipEncoder, *, batch_size: int = 32) -> None:
        """`batch_size` pictures are encoded together."""
        self.judge, self.batch_size = judge, batch_size
        self._pictures: dict[Path, Float[np.ndarray, " D"]] = {}
        self._references: dict[str, Float[np.ndarray, " D"]] = {}

    def judges_itself(self, encoder: nn.Module) -> bool:
        """Whether `encoder`, which a captioner sees with, holds this very CLIP.

        Weights are compared, not names: those of the places of patches, which stay as they are whatever the encoder's
        precision and how many of its last layers a captioner trains.
        """
        own = [w for name, w in self.judge.embeddings.state_dict().items() if name.endswith(_PLACES)]
        return any(torch.equal(weights, places) for weights in encoder.state_dict().values() for places in own)

    def measure(
        self,
        captions: Mapping[str, str],
        pictures: Mapping[str, Path],
        references: Mapping[str, Sequence[str]],
        *,
        progress: bool = False,
    ) -> Measures:
        """Score one caption for every image; `progress` shows bars.

        Raises ValueError naming a picture that is missing or does not decode.
        """
        images = list(captions)
        lacking = [image for image in images if image not in pictures]
        if lacking:
            raise ValueError(f"CLIPScore looks at every picture, and there is no file of image '{lacking[0]}'")
        self._look([pictures[image] for image in images], progress)
        self._read([text for image in images for text in references[image]], progress)
        said = self._embed([captions[image] for image in images])
        seen = np.stack([self._pictures[pictures[image]] for image in images])
        fits = _WEIGHT * np.maximum((said * seen).sum(axis=1), 0.0)
        nearest = [
            max(float(own @ self._references[text]) for text in references[image])
            for own, image in zip(said, images, strict=True)
        ]
        each = {"CLIPScore": fits, "RefCLIPScore": _harmonic_means(fits, np.maximum(nearest, 0.0))}
        return Measures(
            corpus={name: float(values.mean()) for name, values in each.items()},
            per_image={name: dict(zip(images, values.tolist(), strict=True)) for name, values in each.items()},
        )

    def _look(self, files: Sequence[Path], progress: bool) -> None:
        """Encode the pictures that are not known."""
        new = list(dict.fromkeys(file for file in files if file not in self._pictures))
        starts = range(0, len(new), self.batch_size)
        for start in track(starts, description="CLIP looks", total=len(starts)) if progress else starts:
            batch = new[start : start + self.batch_size]
            pixels = torch.stack([self.judge.load(file)[0] for file in batch])
            self._pictures |= dict(zip(batch, self.judge.embed_image(pixels).numpy(), strict=True))

    def _read(self, texts: Sequence[str], progress: bool) -> None:
        """Encode the references that are not known."""
        new = list(dict.fromkeys(text for text in texts if text not in self._references))
        starts = range(0, len(new), _TEXTS_AT_ONCE)
        for start in track(starts, description="CLIP reads", total=len(starts)) if progress else starts:
            batch = new[start : start + _TEXTS_AT_ONCE]
            self._references |= dict(zip(batch, self._embed(batch), strict=True))

    def _embed(self, texts: Sequence[str]) -> Float[np.ndarray, "L D"]:
        vectors: Float[np.ndarray, "L D"] = self.judge.embed_text([_PROMPT + text for text in texts]).numpy()
        return vectors


def _harmonic_means(one: Float[np.ndarray, " I"], other: Float[np.ndarray, " I"]) -> Float[np.ndarray, " I"]:
    """Harmonic means; 0 where both sides are."""
    total = one + other
    means: Float[np.ndarray, " I"] = np.zeros_like(total)
    np.divide(2 * one * other, total, out=means, where=total > 0)
    return means
