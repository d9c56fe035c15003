from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.distillation.objective import DistilObjectiveConfig, divergence_from
from regioncap.experiments.distillation.targets import Targets
from regioncap.experiments.prepare import Prepared

Batch = tuple[Captioner, Condition, Tensor, Tensor, Tensor, Tensor]
WORDS = 5


def distributions(seed: int, n: int = 4, vocabulary: int = 9, sharp: float = 2.0) -> tuple[Tensor, Tensor]:
    """A student's logits and a teacher's probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits, told = sharp * torch.randn(2, n, vocabulary, generator=generator)
    return logits, told.softmax(-1)


def test_over_all_words_it_is_the_divergence_of_torch() -> None:
    logits, q = distributions(0)
    shares, words = q.topk(q.shape[1])
    want = F.kl_div(logits.log_softmax(-1), q, reduction="none").sum(-1)
    torch.testing.assert_close(divergence_from(logits, words, shares), want, rtol=1e-4, atol=1e-5)


def test_the_other_words_are_one_event() -> None:
    logits, q = distributions(1)
    shares, words = q.topk(3)
    for row in range(len(q)):
        p = logits[row].softmax(-1)
        events = [(q[row, w].item(), p[w].item()) for w in words[row].tolist()]
        events.append((1 - sum(a for a, _ in events), 1 - sum(b for _, b in events)))
        want = sum(a * torch.tensor(a / b).log().item() for a, b in events)
        assert divergence_from(logits, words, shares)[row].item() == pytest.approx(want, rel=1e-3, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), k=st.integers(1, 9), sharp=st.floats(0.1, 30.0))
def test_it_is_never_negative_nor_above_the_divergence_over_all_words(seed: int, k: int, sharp: float) -> None:
    logits, q = distributions(seed, sharp=sharp)
    shares, words = q.topk(k)
    found = divergence_from(logits, words, shares)
    whole = F.kl_div(logits.log_softmax(-1), q, reduction="none").sum(-1)
    assert torch.isfinite(found).all()
    assert (found > -1e-5).all()
    assert (found < whole + 1e-3 * (1 + whole)).all()


@pytest.mark.parametrize("k", [3, 9])
def test_a_student_that_says_what_the_teacher_says_has_nothing_to_learn(k: int) -> None:
    logits, _ = distributions(2)
    logits.requires_grad_()
    shares, words = logits.detach().softmax(-1).topk(k)
    loss = divergence_from(logits, words, shares)
    loss.sum().backward()
    assert loss.abs().max() < 1e-5
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-5


@pytest.fixture(scope="module")
def batch(make_captioner: Callable[[str], Captioner], prepared: Prepared) -> Batch:
    """The teacher's words are drawn by chance: the objective does not ask where they come from."""
    captioner = make_captioner("+graph+guidance")
    rows = torch.arange(5)
    with torch.no_grad():
        condition = captioner.condition(*prepared.seen(rows))
    tokens, mask, _ = prepared.captions.pick(rows, 3, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    told = torch.rand(*tokens[..., 1:].shape, captioner.decoder.vocab_size, generator=generator)
    shares, words = (3 * told).softmax(-1).topk(WORDS)
    return captioner, condition, tokens, mask, words, shares


def losses(batch: Batch, **fields: Any) -> dict[str, Tensor]:
    """The terms, and their weighted sum as `total`."""
    captioner, condition, *targets = batch
    tokens, mask = targets[:2]
    objective = DistilObjectiveConfig(**fields).build(Targets(tokens=tokens, mask=mask), None)
    with torch.no_grad():
        terms = dict(objective(captioner, condition, tuple(targets)).terms)
    return terms | {"total": sum((objective.weights[name] * terms[name] for name in terms), torch.zeros(()))}


def test_without_the_teacher_it_is_the_cross_entropy_of_any_training(batch: Batch) -> None:
    captioner, condition, tokens, mask, *_ = batch
    found = losses(batch, weight=0.0)
    with torch.no_grad():
        want = captioner.generation_loss(condition.prefix, tokens, mask)
    torch.testing.assert_close(found["generation"], want, rtol=1e-5, atol=1e-6)
    assert found["total"] == found["generation"]
    assert set(found) == {"generation", "total"}


@pytest.mark.parametrize(("weight", "temperature"), [(0.5, 2.0), (1.0, 1.0), (0.3, 4.0)])
def test_terms_are_weighed_as_written_word_by_word(batch: Batch, weight: float, temperature: float) -> None:
    captioner, condition, tokens, mask, words, shares = batch
    with torch.no_grad():
        prefix = condition.prefix
        logits = captioner.decoder(prefix.embeddings, prefix.valid, tokens, mask, bias=prefix.bias)
    entropy, divergence, count = 0.0, 0.0, 0
    for b in range(tokens.shape[0]):
        for c in range(tokens.shape[1]):
            for t in range(int(mask[b, c].sum()) - 1):
                entropy -= logits[b, c, t].log_softmax(-1)[tokens[b, c, t + 1]].item()
                softened = logits[b, c, t] / temperature
                divergence += divergence_from(softened[None], words[b, c, t][None], shares[b, c, t][None]).item()
                count += 1
    want = ((1 - weight) * entropy + weight * temperature**2 * divergence) / count
    assert losses(batch, weight=weight, temperature=temperature)["total"].item() == pytest.approx(want, rel=1e-4)


def test_padding_adds_nothing(batch: Batch) -> None:
    captioner, condition, tokens, mask, words, shares = batch
    padding = ~mask[..., 1:]
    assert padding.any()
    spoilt = (captioner, condition, tokens, mask, words, shares.masked_fill(padding[..., None], 7.0))
    assert losses(spoilt)["total"] == losses(batch)["total"]


def test_gradient_reaches_every_parameter_of_the_decoder(batch: Batch) -> None:
    captioner, condition, tokens, mask, words, shares = batch
    captioner.zero_grad()
    objective = DistilObjectiveConfig(weight=1.0).build(Targets(tokens=tokens, mask=mask), None)
    objective(captioner, condition, (tokens, mask, words, shares)).terms["teacher"].backward()
    for name, parameter in captioner.decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    captioner.zero_grad()


def test_settings_are_heeded_and_refused_out_of_range(batch: Batch) -> None:
    for change in ({"weight": 0.7}, {"temperature": 3.0}):
        assert losses(batch, **change)["total"] != losses(batch)["total"]
    with pytest.raises(ValueError, match=r"objective\.weight must lie in \[0, 1\], got 1\.5"):
        DistilObjectiveConfig(weight=1.5)
    with pytest.raises(ValueError, match=r"objective\.temperature must be positive, got 0"):
        DistilObjectiveConfig(temperature=0.0)
    with pytest.raises(ValueError, match=r"objective\.top must be at least 1, got 0"):
        DistilObjectiveConfig(top=0)
