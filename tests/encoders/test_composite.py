import pytest
import torch
from PIL import Image

from regioncap.encoders import (
    ClipEncoderConfig,
    CompositeEncoder,
    GlobalEncoder,
    GridEncoderConfig,
    ImageEncoder,
    VitMapConfig,
)


@pytest.fixture(scope="module")
def parts(clip_folder, siglip_folder):
    """A CLIP for the whole, a grid of another network at another size for the regions."""
    whole = ClipEncoderConfig(weights=str(clip_folder), trainable_layers=1).build()
    return whole, GridEncoderConfig(backbone=VitMapConfig(weights=str(siglip_folder)), image_size=96).build()


def test_each_part_sees_its_own_view(parts, tmp_path):
    whole, regions = parts
    encoder = CompositeEncoder(whole, regions)
    assert isinstance(encoder, ImageEncoder)
    assert isinstance(whole, GlobalEncoder)
    draw, paths = torch.Generator().manual_seed(0), []
    for i, size in enumerate([(120, 80), (50, 90)]):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray((torch.rand(6, 6, 3, generator=draw) * 255).byte().numpy()).resize(size).save(paths[-1])
    views = [torch.stack(column) for column in zip(*(encoder.load(path) for path in paths), strict=True)]
    seen = encoder(*views)
    for i, path in enumerate(paths):
        pixels, frame = whole.load(path)
        alone = whole(pixels[None], frame[None])
        torch.testing.assert_close(seen.pooled[i : i + 1], alone.pooled, atol=1e-5, rtol=1e-5)
        cells = regions(regions.load(path)[0][None]).regions
        torch.testing.assert_close(seen.regions.features[i : i + 1], cells.features, atol=1e-5, rtol=1e-5)
    assert seen.pooled.shape[1] == encoder.pooled_dim == whole.pooled_dim
    assert seen.regions.features.shape[1:] == (encoder.regions_per_image, encoder.region_dim) == (36, 32)
    assert (encoder.words, encoder.words_per_region) == ((), 0)
