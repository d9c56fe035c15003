import math

import pytest
import torch
from torch import Tensor

from regioncap.decoder.attention import as_bias, attend, causal, compute_dtype

B, HEADS, S, D, ROWS, SAID = 2, 3, 5, 4, 3, 2


def slow(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """One query of one head over the keys it may hear."""
    heard = [s for s in range(len(k)) if allowed[s]]
    scores = [math.exp(float(q @ k[s])) for s in heard]
    return sum((w / sum(scores) * v[s] for w, s in zip(scores, heard, strict=True)), torch.zeros_like(v[0]))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_attention_matches_a_slow_loop(device: str):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    q, k, v = torch.randn(3, B, HEADS, S, D)
    real = torch.tensor([[True] * S, [False, True, False, True, True]])
    allowed = causal(real)
    given = (x.to(device) for x in (q, k, v, as_bias(allowed, torch.float32)[:, None]))
    out = attend(*given).cpu().view(B, S, HEADS, D)
    for b in range(B):
        for h in range(HEADS):
            for s in range(S):
                want = slow(q[b, h, s], k[b, h], v[b, h], allowed[b, s])
                torch.testing.assert_close(out[b, s, h], want, rtol=1e-4, atol=1e-5)


def test_every_slot_hears_itself_and_real_slots_before_it():
    real = torch.tensor([[False, True, False, True]])
    want = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]], dtype=torch.bool)
    assert torch.equal(causal(real)[0], want)


def test_bias_is_finite_in_the_type_of_the_products():
    x = torch.zeros(1)
    assert compute_dtype(x) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        bias = as_bias(torch.tensor([True, False]), compute_dtype(x))
    assert bias.dtype == torch.bfloat16
    assert bias[0] == 0
    assert bias.isfinite().all()
    assert bias[1] < -1e30
