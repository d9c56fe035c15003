"""The floor of the study: no captioner, only the caption of the nearest training image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regioncap.encoders import ImageTextHead
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.prepare import Prepared

_AT_ONCE = 256


def retrieve(prepared: Prepared) -> dict[str, str]:
    """For each dev image the first caption of the nearest training image."""
    with torch.inference_mode():
        head = prepared.clip_head.eval()
        g = _embedded(head, prepared.dev)
        g_train = F.normalize(_embedded(head, prepared.train) + prepared.offsets, dim=-1)
    captions = nearest_captions(g, g_train, [image.captions for image in prepared.train_images])
    return dict(zip(prepared.dev.names, captions, strict=True))


def nearest_captions(
    g: Float[Tensor, "B D"], g_train: Float[Tensor, "n D"], train_captions: Sequence[Sequence[str]]
) -> list[str]:
    """For each image the first caption of the training image whose g is nearest by cosine; both of unit length.

    `g_train` are cross-fitted embeddings, so that seen and unseen images are measured alike.
    """
    nearest = torch.cat([(part @ g_train.T).argmax(dim=1) for part in g.split(_AT_ONCE)])
    return [train_captions[row][0] for row in nearest.tolist()]


def _embedded(head: ImageTextHead, store: FeatureStore) -> Float[Tensor, "n D"]:
    """g of every image, not offset. In parts: `pooled` may be the activations of all patches."""
    return torch.cat([head.embed_image(store.pooled(rows)) for rows in torch.arange(len(store)).split(_AT_ONCE)])
