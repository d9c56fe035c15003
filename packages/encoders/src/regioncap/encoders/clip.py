"""Any CLIP that transformers loads: image vector, patches as regions, text tower, its last layers left open."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from regioncap.encoders.cells import cell_regions, grid_boxes
from regioncap.encoders.clip_parts import take_apart
from regioncap.encoders.clip_tail import ClipTail
from regioncap.encoders.clip_text import ClipText
from regioncap.encoders.fast_linear import PRECISIONS, Precision, quicken
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.preprocessing import Preprocessing, load_preprocessing
from regioncap.encoders.weights import MODEL_FILES, TOKENIZER_FILES, find_checkpoint, load_pretrained, load_tokenizer

_WAY_OUT = (
    "give clip.weights the folder of a complete CLIP or SigLIP in transformers' format (config, weights, "
    "preprocessor_config.json, tokenizer) or a hub name"
)
_FILES = (*MODEL_FILES, ("preprocessor_config.json", "processor_config.json"), TOKENIZER_FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipEncoderConfig:
    """Which CLIP, and how it runs."""

    weights: str = "openai/clip-vit-base-patch32"
    """A folder in transformers' format or a hub name, looked for in this order: CLIP (Table 2: ViT-B/32), SigLIP, or
    SigLIP 2 of a fixed size."""
    trainable_layers: int = 0
    """Last layers that are left to the `ClipTail`, so that a captioner can train them over stored activations (the
    paper: 2)."""
    precision: Precision = "float32"
    """Arithmetic of the frozen image layers' matrix products: see `quicken`."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError(f"clip.weights is empty: {_WAY_OUT}")
        if self.trainable_layers < 0:
            raise ValueError(f"clip.trainable_layers must not be negative, got {self.trainable_layers}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"clip.precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def build(self) -> "ClipEncoder":
        """Return the frozen encoder. Raises ValueError naming what is missing or does not fit."""
        source = find_checkpoint(self.weights, _FILES, way_out=_WAY_OUT)
        model = load_pretrained(AutoModel, source, what="CLIP", way_out=_WAY_OUT)
        tokenizer = load_tokenizer(AutoTokenizer, source, what="CLIP", way_out=_WAY_OUT)
        return ClipEncoder(self, model=model, tokenizer=tokenizer, preprocessing=load_preprocessing(source))


class ClipEncoder(nn.Module):
    """A pre-trained CLIP (eq. 1), frozen: `ImageFeatures` whose regions are its patches, and both towers' embeddings.

    `pooled` are the hidden states before the last `trainable_layers` layers, flattened, or, with none of these, the
    image vector before the projection; `tail` (a copy of the rest of the image tower with the projections) takes it to
    g. Patches are in reading order, their features the tower's last hidden states, their scores 1; where the
    checkpoint crops, their boxes tile the part of the picture that it sees. B images, N patches, R = W channels.
    """

    def __init__(self, config: ClipEncoderConfig, *, model: Any, tokenizer: Any, preprocessing: Preprocessing) -> None:
        """`model` is transformers' CLIPModel, SiglipModel or the like, `tokenizer` its own; the model is used up."""
        super().__init__()
        self.config = config
        self.preprocessing, self.image_size = preprocessing, preprocessing.size
        parts = take_apart(model, config.weights, self.image_size, config.trainable_layers)
        self.embeddings, self.blocks, self.readout = parts.embeddings, parts.blocks, parts.readout
        self.class_tokens, self.grid = parts.class_tokens, parts.grid
        self.tail: ClipTail = parts.tail
        self.text = ClipText(model.text_model, tokenizer, model.config.text_config.max_position_embeddings)
        quicken(self.embeddings, config.precision)
        quicken(self.blocks, config.precision)
        quicken(self.readout, config.precision)
        self.register_buffer("cells", grid_boxes(*self.grid), persistent=False)
        self.cells: Float[Tensor, "N 4"]
        self.requires_grad_(False)
        self.eval()

    @property
    def dim(self) -> int:
        """Width D of the joint space of images and texts."""
        return self.tail.dim

    @property
    def pooled_dim(self) -> int:
        """Activations G of an image before the tail."""
        return self.tail.pooled_dim

    @property
    def region_dim(self) -> int:
        """Channels R of a patch."""
        return self.tail.config.width

    @property
    def regions_per_image(self) -> int:
        """Patches N of an image."""
        return len(self.cells)

    @property
    def words(self) -> tuple[str, ...]:
        """None: patches have no names."""
        return ()

    @property
    def words_per_region(self) -> int:
        """Q = 0."""
        return 0

    def train(self, mode: bool = True) -> "ClipEncoder":
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    def load(self, path: Path) -> tuple[Float[Tensor, "3 Y X"], Float[Tensor, "4"]]:
        """Read a picture by the checkpoint's own preprocessing: pixels, and which part of the picture they are."""
        return self.preprocessing.load(path)

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "B 3 Y X"], frames: Float[Tensor, "B 4"]) -> ImageFeatures:
        """Encode what `load` gave."""
        hidden = self._below(pixels)
        tokens = self.readout.tokens(hidden)
        pooled = hidden.flatten(1) if self.config.trainable_layers else self.readout.read(tokens)
        left_top, size = frames[:, None, :2], frames[:, None, 2:] - frames[:, None, :2]
        boxes = (self.cells.view(-1, 2, 2) * size[:, :, None] + left_top[:, :, None]).flatten(2).clamp(0.0, 1.0)
        return ImageFeatures(pooled=pooled, regions=cell_regions(tokens[:, self.class_tokens :].contiguous(), boxes))

    @torch.no_grad()
    def pool(self, pixels: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B G"]:
        """Return the image's activations alone: no layer runs for patches that nobody asked for."""
        hidden = self._below(pixels)
        return hidden.flatten(1) if self.config.trainable_layers else self.readout(hidden)

    @torch.no_grad()
    def embed_image(self, pixels: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B D"]:
        """Return g, L2-normalised."""
        return self.tail.embed_image(self.pool(pixels))

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "L D"]:
        """Return texts in the space of g, L2-normalised."""
        return self.tail.embed_text(self.text.embed(texts))

    def _below(self, pixels: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B T W"]:
        """Hidden states before the readout: all tokens of the layers that never train."""
        if tuple(pixels.shape[-2:]) != self.image_size:
            raise ValueError(f"images are {tuple(pixels.shape[-2:])} high and wide, the CLIP wants {self.image_size}")
        x: Tensor = self.embeddings(pixels)
        for block in self.blocks:
            x = block(x)
        return x
