"""What takes image activations and text vectors into the joint space: learned here, or a CLIP's own end."""

from regioncap.encoders.clip_head import ClipHead, ClipHeadConfig
from regioncap.encoders.clip_tail import ClipTail, ClipTailConfig

ImageTextHead = ClipHead | ClipTail
"""Both have `embed_image`, `embed_text`, `scale`, `last_layers(n)`, and the widths `pooled_dim`, `text_dim`, `dim`."""
ImageTextHeadConfig = ClipHeadConfig | ClipTailConfig
"""Both have `build(pooled_dim, text_dim, dim)`."""
