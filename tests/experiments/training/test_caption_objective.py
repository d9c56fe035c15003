from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.objectives.caption import (
    CaptionObjectiveConfig,
    contrastive_alignment,
    cosine_alignment,
    gate_sparsity,
)

Batch = tuple[Captioner, Condition, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Terms:
    """What an objective says of a batch, with its weighted sum."""

    generation: Tensor
    alignment: Tensor
    gate: Tensor
    total: Tensor


@pytest.fixture(scope="module")
def batch(make_captioner: Callable[[str], Captioner], prepared: Prepared) -> Batch:
    return of_arm(make_captioner("+graph+guidance"), prepared)


def of_arm(captioner: Captioner, prepared: Prepared) -> Batch:
    rows = torch.arange(5)
    with torch.no_grad():
        condition = captioner.condition(*prepared.seen(rows))
    return captioner, condition, *prepared.captions.pick(rows, 3, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def losses(prepared: Prepared, tiny: Experiment) -> Callable[..., Terms]:
    def of(batch: Batch, **fields: Any) -> Terms:
        captioner, condition, *targets = batch
        objective = CaptionObjectiveConfig(**fields).build(prepared.lessons, tiny.dim)
        with torch.no_grad():
            terms = objective(captioner, condition, tuple(targets)).terms
        return Terms(**terms, total=sum((objective.weights[name] * terms[name] for name in terms), torch.zeros(())))

    return of


def test_generation_is_the_mean_cross_entropy_of_gpt2_read_one_caption_at_a_time(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, losses: Callable[..., Terms]
) -> None:
    """Eq. 16 through transformers' own model, which knows no bias of words."""
    batch = of_arm(make_captioner("words as tokens"), prepared)
    captioner, condition, tokens, mask, _ = batch
    assert condition.prefix.bias is None
    gpt2, total, count = captioner.decoder.model, 0.0, 0
    for b in range(tokens.shape[0]):
        prefix = condition.prefix.embeddings[b][condition.prefix.valid[b]]  # P H
        for c in range(tokens.shape[1]):
            words = tokens[b, c][mask[b, c]]
            embedded = torch.cat([prefix, gpt2.transformer.wte(words)])
            with torch.no_grad():
                logits = gpt2(inputs_embeds=embedded[None]).logits[0, len(prefix) :]
            for t in range(len(words) - 1):
                total -= logits[t].log_softmax(-1)[words[t + 1]].item()
                count += 1
    assert losses(batch).generation.item() == pytest.approx(total / count, rel=1e-4)


def test_cosine_alignment_is_one_minus_the_mean_cosine(batch: Batch, losses: Callable[..., Terms]) -> None:
    captioner, condition, _, _, text = batch
    cosines = [
        F.cosine_similarity(condition.g[b], captioner.text_projection(text[b, c]), dim=0)
        for b in range(5)
        for c in range(3)
    ]
    assert losses(batch).alignment.item() == pytest.approx(1 - sum(cosines).item() / 15, abs=1e-5)  # eq. 17


def test_cosine_alignment_of_equal_and_of_opposed_vectors() -> None:
    g = F.normalize(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), dim=-1)
    assert cosine_alignment(g, g[:, None]).item() == pytest.approx(0.0, abs=1e-6)
    assert cosine_alignment(g, -g[:, None]).item() == pytest.approx(2.0)


def test_contrastive_alignment_equals_the_slow_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    g = F.normalize(torch.randn(4, 6, generator=generator), dim=-1)
    text = F.normalize(torch.randn(4, 3, 6, generator=generator), dim=-1)
    total = 0.0
    for i in range(4):
        caption = [F.normalize(text[j].mean(0), dim=0) for j in range(4)]
        by_image = torch.stack([g[i] @ caption[j] for j in range(4)]) / 0.2
        by_text = torch.stack([g[j] @ caption[i] for j in range(4)]) / 0.2
        total -= (by_image.log_softmax(0)[i] + by_text.log_softmax(0)[i]).item()
    assert contrastive_alignment(g, text, 0.2).item() == pytest.approx(total / 8, rel=1e-5)


def test_objective_takes_the_alignment_and_temperature_it_is_told(batch: Batch, losses: Callable[..., Terms]) -> None:
    captioner, condition, _, _, text = batch
    embedded = F.normalize(captioner.text_projection(text), dim=-1)
    for temperature in (0.07, 0.5):
        found = losses(batch, align="contrastive", temperature=temperature).alignment
        torch.testing.assert_close(found, contrastive_alignment(condition.g, embedded, temperature).detach())
    assert losses(batch, align="contrastive").alignment != losses(batch).alignment


def test_gate_is_lambda_times_the_mean_size_of_local_words_over_real_regions(
    batch: Batch, losses: Callable[..., Terms]
) -> None:
    condition = batch[1]
    detail, valid = condition.guidance.region_detail, condition.regions.valid
    sizes = [
        abs(x)
        for b in range(detail.shape[0])
        for i in range(detail.shape[1])
        if valid[b, i]
        for x in detail[b, i].tolist()
    ]
    assert not valid.all()  # else padding is not seen
    for gate_lambda in (0.1, 0.5):
        wanted = gate_lambda * sum(sizes) / len(sizes)
        assert losses(batch, gate_lambda=gate_lambda).gate.item() == pytest.approx(wanted, rel=1e-4)  # eq. 18


def test_gates_that_are_nearly_shut_are_closed_no_further(batch: Batch, losses: Callable[..., Terms]) -> None:
    gate, valid = batch[1].guidance.gate, batch[1].regions.valid
    openness = gate[valid].mean().item()
    assert losses(batch, gate_lambda=0.5, gate_floor=openness + 0.01).gate == 0
    assert losses(batch, gate_lambda=0.5, gate_floor=openness - 0.01).gate > 0


def test_padding_adds_nothing_to_the_gate() -> None:
    detail = torch.ones(1, 3, 2)
    detail[0, 2] = 1e6
    assert gate_sparsity(detail, torch.tensor([[True, True, False]])) == 1


def test_captioner_without_detail_words_has_no_gate() -> None:
    assert gate_sparsity(torch.zeros(2, 0, 4), torch.ones(2, 3, dtype=torch.bool)) == 0


@pytest.mark.parametrize(("alpha1", "alpha2"), [(0.7, 0.3), (0.0, 0.3), (0.7, 0.0), (2.0, 5.0)])
def test_total_weighs_the_terms_as_in_equation_19(
    batch: Batch, losses: Callable[..., Terms], alpha1: float, alpha2: float
) -> None:
    found = losses(batch, alpha1=alpha1, alpha2=alpha2, gate_lambda=0.5)
    wanted = found.generation + alpha1 * found.alignment + alpha2 * found.gate
    torch.testing.assert_close(found.total, wanted)
    assert found.gate > 0
    assert found.alignment > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha1": -1.0}, r"objective\.alpha1 must not be negative, got -1"),
        ({"alpha2": -1.0}, r"objective\.alpha2 must not be negative"),
        ({"gate_lambda": -1.0}, r"objective\.gate_lambda must not be negative"),
        ({"keyword_weight": -1.0}, r"objective\.keyword_weight must not be negative"),
        ({"gate_floor": 1.5}, r"objective\.gate_floor must lie in \[0, 1\], got 1\.5"),
        ({"temperature": 0.0}, r"objective\.temperature must be positive, got 0"),
    ],
)
def test_weights_out_of_range_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionObjectiveConfig(**fields)
