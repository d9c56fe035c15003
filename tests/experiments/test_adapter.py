import pytest
import torch

from regioncap.encoders import Regions
from regioncap.experiments.adapter import AdapterConfig, NoRegionsConfig


@pytest.fixture
def regions() -> Regions:
    generator = torch.Generator().manual_seed(0)
    valid = torch.tensor([[True, True, True], [True, False, False]])
    return Regions(
        features=5 * torch.randn(2, 3, 6, generator=generator) + 2,
        boxes=torch.rand(2, 3, 4, generator=generator),
        scores=torch.rand(2, 3, generator=generator),
        valid=valid,
        words=torch.zeros(2, 3, 0, dtype=torch.long),
        word_scores=torch.zeros(2, 3, 0),
    )


def test_adapter_normalises_each_region_and_maps_it(regions: Regions) -> None:
    adapter = AdapterConfig().build(6, 4).eval()
    adapted = adapter(regions)
    for b in range(2):
        for i in range(3):
            r = regions.features[b, i].double()
            normal = (r - r.mean()) / (r.var(unbiased=False) + adapter.norm.eps).sqrt()
            wanted = adapter.project.weight.double() @ normal + adapter.project.bias.double()
            if not regions.valid[b, i]:
                wanted = torch.zeros(4, dtype=torch.float64)
            torch.testing.assert_close(adapted.features[b, i].double(), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(adapted.raw, regions.features)
    assert torch.equal(adapted.boxes, regions.boxes)


def test_dropout_acts_in_training_only_and_as_configured(regions: Regions) -> None:
    torch.manual_seed(0)
    adapter = AdapterConfig(dropout=0.5).build(6, 4)
    assert not torch.equal(adapter(regions).features, adapter(regions).features)
    adapter.eval()
    assert torch.equal(adapter(regions).features, adapter(regions).features)
    still = AdapterConfig(dropout=0.0).build(6, 4)
    assert torch.equal(still(regions).features, still(regions).features)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_outside_its_range_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"adapter\.dropout must lie in \[0, 1\), got"):
        AdapterConfig(dropout=dropout)


def test_no_regions_hands_on_empty_axes_without_parameters(regions: Regions) -> None:
    stage = NoRegionsConfig().build(6, 4)
    adapted = stage(regions)
    assert adapted.features.shape == (2, 0, 4)
    assert adapted.raw.shape == (2, 0, 6)
    assert adapted.boxes.shape == (2, 0, 4)
    assert adapted.valid.shape == (2, 0)
    assert not list(stage.parameters())


def test_no_regions_may_keep_their_places(regions: Regions) -> None:
    stage = NoRegionsConfig(places=True).build(6, 4)
    adapted = stage(regions)
    assert torch.equal(adapted.features, torch.zeros(2, 3, 4))
    assert torch.equal(adapted.boxes, regions.boxes)
    assert torch.equal(adapted.valid, regions.valid)
    assert torch.equal(adapted.raw, regions.features)
    assert not list(stage.parameters())
