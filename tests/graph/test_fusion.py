import math

import torch

from regioncap.graph import FusionConfig, GlobalOnlyConfig, fuse


def test_fusion_equals_eq_10() -> None:
    torch.manual_seed(0)
    g, regions = torch.randn(3, 4), torch.randn(3, 5, 4)
    valid = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    regions[~valid] = math.nan
    stage = FusionConfig().build(4)
    fused = stage(g, regions, valid)
    for b in range(3):
        kept = [regions[b, i] for i in range(5) if valid[b, i]]
        mean = sum(kept, torch.zeros(4)) / max(len(kept), 1)
        torch.testing.assert_close(fused[b], stage.project.weight @ torch.cat([g[b], mean]))
    assert torch.equal(fuse(g, regions, valid, stage.project.weight), fused)


def test_fusion_takes_a_zero_length_axis() -> None:
    stage = FusionConfig().build(4)
    g = torch.randn(2, 4)
    fused = stage(g, torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool))
    torch.testing.assert_close(fused, g @ stage.project.weight[:, :4].T)


def test_fusion_ignores_the_order_of_regions() -> None:
    g, regions, valid = torch.randn(2, 4), torch.randn(2, 6, 4), torch.tensor([[True] * 6, [True, False] * 3])
    stage, order = FusionConfig().build(4), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(stage(g, regions[:, order], valid[:, order]), stage(g, regions, valid))


def test_every_input_and_parameter_gets_a_gradient() -> None:
    g, regions = torch.randn(2, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    stage = FusionConfig().build(4)
    stage(g, regions, torch.ones(2, 3, dtype=torch.bool)).square().sum().backward()
    for tensor in (g, regions, *stage.parameters()):
        assert tensor.grad is not None
        assert (tensor.grad != 0).all()


def test_global_only_is_g() -> None:
    g, stage = torch.randn(2, 4), GlobalOnlyConfig().build(4)
    assert torch.equal(stage(g, torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)), g)
    assert not list(stage.parameters())
