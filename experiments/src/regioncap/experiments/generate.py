"""Captions for encoded images, in batches, with what the captioner saw and chose."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regioncap.decoder import Captions, CaptionTokenizer, Prefix, SearchConfig, Wording, search
from regioncap.encoders import ImageFeatures
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.devices import on_device
from regioncap.experiments.progress import track
from regioncap.graph import EnhancedRegions
from regioncap.guidance import Guidance, Steering


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One batch: the captions, and what they were decoded from."""

    texts: tuple[str, ...]
    """The best caption of each image."""
    alternatives: tuple[tuple[str, ...], ...]
    """All captions of each image, the best first; fewer than were asked for where no more were found."""
    captions: Captions
    probabilities: tuple[tuple[tuple[str, float], ...], ...]
    """Of each image's best caption: its tokens, the end among them, and the probability of each."""
    prefix: Prefix
    """Its word bias is as strong as the search took it (`search.word_strength`)."""
    guidance: Guidance
    regions: EnhancedRegions
    boxes: Float[Tensor, "B N 4"]


class CaptionGenerator:
    """A captioner with its decoder's weights laid out for one way of searching, for any number of batches.

    A snapshot of the decoder: make another after training went on.
    """

    def __init__(self, captioner: Captioner, tokenizer: CaptionTokenizer, config: SearchConfig) -> None:
        self._captioner, self._tokenizer, self._config = captioner, tokenizer, config
        with evaluating(captioner):
            self._decoder = captioner.decoder.incremental(config.precision)
        self._wording = Wording.of(tokenizer, bad_words=config.bad_words, prompt=config.prompt)

    def __call__(self, images: ImageFeatures, names: Sequence[str], steering: Steering | None = None) -> Generated:
        """Caption one batch of images that no head was fitted on, or whose cross-fit offset is not wanted.

        `names` are the images': sampling draws by them, so that the same image gets the same words in any batch.
        """
        with evaluating(self._captioner), torch.inference_mode():
            images = on_device(images, next(self._captioner.parameters()).device)
            condition = self._captioner.condition(images, steering=steering)
            captions, alternatives = self.from_prefix(condition.prefix, names)
        return Generated(
            texts=tuple(texts[0] for texts in alternatives),
            alternatives=alternatives,
            captions=captions,
            probabilities=tuple(self._probabilities(captions, image) for image in range(len(names))),
            prefix=self._told(condition.prefix),
            guidance=condition.guidance,
            regions=condition.regions,
            boxes=condition.adapted.boxes,
        )

    def _told(self, prefix: Prefix) -> Prefix:
        """What an explanation has to read, for it to be of the search."""
        return prefix if prefix.bias is None else replace(prefix, bias=prefix.bias * self._config.word_strength)

    def from_prefix(self, prefix: Prefix, names: Sequence[str]) -> tuple[Captions, tuple[tuple[str, ...], ...]]:
        """The search alone: captions of each image, as tokens and as texts, the best first."""
        keys = [zlib.crc32(name.encode()) for name in names]
        captions = search(
            self._decoder, prefix.embeddings, prefix.valid, self._config, self._wording, prefix.added, keys, prefix.bias
        )
        texts = tuple(
            tuple(self._text(row) for row, length in zip(rows, lengths, strict=True) if length)
            for rows, lengths in zip(captions.tokens, captions.lengths, strict=True)
        )
        return captions, texts

    def whole(self, captions: Captions) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """The best caption of each image with bos and prompt before it, and which of the tokens are real."""
        begin = captions.tokens.new_tensor([self._tokenizer.bos, *self._wording.prompt])
        tokens = torch.cat([begin.expand(len(captions.tokens), -1), captions.tokens[:, 0]], 1)
        real = torch.arange(tokens.shape[1]) < (len(begin) + captions.lengths[:, :1].cpu())
        return tokens, real.to(tokens.device)

    def _text(self, tokens: Int[Tensor, " T"]) -> str:
        return self._tokenizer.decode(torch.cat([tokens.new_tensor(self._wording.prompt), tokens]))

    def _probabilities(self, captions: Captions, image: int) -> tuple[tuple[str, float], ...]:
        length = int(captions.lengths[image, 0])
        said = self._tokenizer.tokenizer.convert_ids_to_tokens(captions.tokens[image, 0, :length].tolist())
        return tuple(zip(said, captions.log_probs[image, 0, :length].exp().tolist(), strict=True))


def generate_over(
    captioner: Captioner,
    store: FeatureStore,
    tokenizer: CaptionTokenizer,
    search: SearchConfig,
    *,
    rows: Int[Tensor, "n"] | None = None,
    batch_size: int = 50,
    describe: str | None = None,
) -> Iterator[Generated]:
    """Caption a store's images in order (those of `rows` if given); `describe` names a progress bar."""
    rows = torch.arange(len(store)) if rows is None else rows
    parts = rows.split(batch_size)
    generator = CaptionGenerator(captioner, tokenizer, search)
    for part in parts if describe is None else track(parts, description=describe, total=len(parts)):
        yield generator(store.images(part), [store.names[row] for row in part])


@contextmanager
def evaluating(captioner: Captioner) -> Iterator[None]:
    """Evaluation mode for a while."""
    was_training = captioner.training
    captioner.eval()
    try:
        yield
    finally:
        captioner.train(was_training)
