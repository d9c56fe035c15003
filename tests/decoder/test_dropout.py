import torch

from regioncap.decoder.dropout import ByteDropout


def test_share_and_mean_are_right():
    torch.manual_seed(0)
    stage = ByteDropout(0.3)
    p = round(0.3 * 256) / 256
    out = stage(torch.ones(400, 1001))
    kept = out[out != 0]
    assert abs((out == 0).float().mean() - p) < 3e-3
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)))


def test_bytes_of_a_word_are_independent_and_each_uniform():
    torch.manual_seed(0)
    dropped = (ByteDropout(0.5)(torch.ones(20000, 8)) == 0).float()
    assert (dropped.mean(0) - 0.5).abs().max() < 0.02
    assert (dropped.T.corrcoef() - torch.eye(8)).abs().max() < 0.04


def test_gradient_is_the_mask():
    torch.manual_seed(0)
    x = torch.randn(50, 7, requires_grad=True)
    out = ByteDropout(0.5)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x, out)


def test_evaluation_and_zero_are_the_identity():
    x = torch.randn(3, 3)
    assert ByteDropout(0.5).eval()(x) is x
    assert ByteDropout(0.0)(x) is x


def test_seed_decides():
    stage, x = ByteDropout(0.5), torch.ones(99)
    torch.manual_seed(3)
    once = stage(x)
    assert not torch.equal(once, stage(x))
    torch.manual_seed(3)
    assert torch.equal(once, stage(x))


def test_keeps_the_type():
    assert ByteDropout(0.5)(torch.ones(9, dtype=torch.bfloat16)).dtype == torch.bfloat16
