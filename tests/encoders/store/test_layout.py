import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.encoders import ImageFeatures, Regions
from regioncap.encoders.store.layout import NotFinite, Shard, assemble, flatten, join, pack, unpack


def features_of(masks, seed=0):
    """Images with these slots valid; padding is zero, and -1 for words."""
    draw = torch.Generator().manual_seed(seed)
    valid = torch.tensor(masks)
    batch, slots = valid.shape
    random = lambda *shape: torch.rand(*shape, generator=draw).half().float()  # noqa: E731
    return ImageFeatures(
        pooled=random(batch, 3),
        regions=Regions(
            features=random(batch, slots, 5) * valid[..., None],
            boxes=torch.rand(batch, slots, 4, generator=draw) * valid[..., None],
            scores=torch.rand(batch, slots, generator=draw) * valid,
            valid=valid,
            words=torch.randint(0, 90, (batch, slots, 2), generator=draw).masked_fill(~valid[..., None], -1),
            word_scores=torch.rand(batch, slots, 2, generator=draw) * valid[..., None],
        ),
    )


def test_flat_names_lead_back_to_the_dataclass():
    features = features_of([[True, False]])
    flat = flatten(features)
    assert {"pooled", "regions.boxes", "regions.words"} < flat.keys()
    again = assemble(ImageFeatures, flat)
    assert all(flatten(again)[name] is value for name, value in flat.items())


rows_of_slots = st.integers(1, 6).flatmap(
    lambda slots: st.lists(st.lists(st.booleans(), min_size=slots, max_size=slots), min_size=1, max_size=5)
)


@given(masks=rows_of_slots, data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_images_come_back_in_any_order_without_common_padding(masks, data):
    batches = [features_of(masks, seed) for seed in (0, 1)]
    shard = Shard(join([pack(batch) for batch in batches]))
    assert len(shard) == 2 * len(masks)
    rows = data.draw(st.lists(st.integers(0, len(shard) - 1), min_size=1, max_size=6))
    found = unpack([shard] * len(rows), rows)
    whole = {name: torch.cat([flatten(batch)[name] for batch in batches])[rows] for name in flatten(batches[0])}
    last = [max((i + 1 for i, real in enumerate(masks[row % len(masks)]) if real), default=1) for row in rows]
    for name, value in found.items():
        wanted = whole[name] if name == "pooled" else whole[name][:, : max(last)]
        assert torch.equal(value, wanted), name
        assert value.dtype == wanted.dtype


def test_padding_takes_no_bytes():
    packed = pack(features_of([[True, False, False, False], [True, True, False, True]]))
    assert packed["regions.counts"].tolist() == [1, 4]
    assert packed["regions.features"].shape == (5, 5)
    assert packed["regions.features"].dtype == torch.float16
    assert packed["regions.boxes"].dtype == torch.float32
    assert packed["regions.words"].dtype == torch.int32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e5])
def test_value_out_of_range_is_told_with_its_image(value):
    features = features_of([[True], [True], [True]])
    features.regions.features[1, 0, 2] = value
    with pytest.raises(NotFinite, match=r"regions\.features is not finite in float16") as caught:
        pack(features)
    assert caught.value.row == 1
