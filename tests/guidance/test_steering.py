import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.guidance import (
    Guidance,
    KeywordBank,
    KeywordQueries,
    KeywordShares,
    SemanticGuidance,
    SemanticGuidanceConfig,
    Steering,
)
from regioncap.guidance.steering import BARRED, best_words, raised, steered, steered_gains

B, N, D, SCENE, DETAIL = 3, 5, 16, 12, 30
MakeBank = Callable[[int, int], KeywordBank]


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, KeywordQueries]:
    torch.manual_seed(3)
    valid = torch.arange(N) < torch.tensor([[5], [3], [0]])
    queries = KeywordQueries(
        scene=torch.randn(B, D), detail=torch.randn(B, D), regions=torch.randn(B, N, D), mix=torch.full((B,), 0.5)
    )
    g = torch.nn.functional.normalize(torch.randn(B, D), dim=-1)
    return torch.randn(B, D), g, torch.randn(B, N, D), valid, queries


@pytest.fixture(params=["learned", "similarity"])
def stage(request: pytest.FixtureRequest, make_bank: MakeBank) -> SemanticGuidance:
    torch.manual_seed(0)
    config = SemanticGuidanceConfig(retrieval=request.param, scene_words=4, detail_words=3, keywords=6)
    stage = config.build(D, make_bank(SCENE, D), make_bank(DETAIL, D)).eval()
    shares = KeywordShares(
        scene=torch.linspace(0.3, 0.01, SCENE), detail=torch.linspace(0.3, 0.01, DETAIL),
        regions=torch.linspace(0.3, 0.01, DETAIL),
    )  # fmt: skip
    stage.calibrate(torch.randn(40, D), shares)
    return stage


def wanted(**rows: dict[tuple[int, ...], int]) -> Steering:
    """Edits by their places in the tensors."""
    steering = Steering.none(B, SCENE, DETAIL)
    parts = {"scene": steering.scene, "detail": steering.detail, "regions": torch.zeros(B, N, DETAIL, dtype=torch.int8)}
    for name, edits in rows.items():
        for place, edit in edits.items():
            parts[name][place] = edit
    return replace(steering, regions=parts["regions"] if "regions" in rows else None)


def guide(stage: SemanticGuidance, steering: Steering | None) -> Guidance:
    with torch.no_grad():
        return stage(*inputs(), steering)


def words(stage: SemanticGuidance, guidance: Guidance, image: int) -> list[set[str]]:
    """Of every region."""
    return [{word for word, _ in own} for own in stage.chosen_words(guidance)[image].detail]


def test_no_edit_changes_no_bit(stage: SemanticGuidance) -> None:
    plain, edited = guide(stage, None), guide(stage, Steering.none(B, SCENE, DETAIL))
    for field in fields(plain):
        one, other = getattr(plain, field.name), getattr(edited, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other), field.name
    for field in fields(plain.keywords):
        assert torch.equal(getattr(plain.keywords, field.name), getattr(edited.keywords, field.name)), field.name


def test_an_added_scene_word_comes_first_and_leaves_other_images_alone(stage: SemanticGuidance) -> None:
    plain = guide(stage, None)
    row = next(row for row in range(SCENE) if row not in plain.scene_words[0])
    edited = guide(stage, wanted(scene={(0, row): 1}))
    assert edited.scene_words[0, 0] == row
    assert row in edited.keywords.words[0]
    assert edited.scene_weights[0, 0] >= 0.98  # log-odds of 4
    assert torch.equal(edited.scene[1:], plain.scene[1:])
    assert torch.equal(edited.region_detail, plain.region_detail)


def test_a_dropped_word_is_chosen_nowhere_and_speaks_against_itself(stage: SemanticGuidance) -> None:
    plain = guide(stage, None)
    scene, detail = int(plain.scene_words[0, 0]), int(plain.detail_words[0, 0, 0])
    edited = guide(stage, wanted(scene={(0, scene): -1}, detail={(0, detail): -1}))
    assert not (edited.scene_weights[0][edited.scene_words[0] == scene] > 0).any()
    assert not (edited.detail_weights[0][edited.detail_words[0] == detail] > 0).any()
    told = edited.keywords.words[0][edited.keywords.valid[0]].tolist()
    assert scene not in told
    assert SCENE + detail not in told
    assert edited.keywords.gains[0, scene] <= -4
    assert edited.keywords.gains[0, SCENE + detail] <= -4
    assert torch.allclose(edited.scene_weights.sum(1), torch.ones(B))


def test_a_bank_that_is_dropped_whole_says_nothing(stage: SemanticGuidance) -> None:
    everything = wanted(scene={(0, row): -1 for row in range(SCENE)}, detail={(0, row): -1 for row in range(DETAIL)})
    edited = guide(stage, everything)
    chosen = stage.chosen_words(edited)[0]
    assert chosen.scene == ()
    assert all(own == () for own in chosen.detail)
    assert not edited.keywords.valid[0].any()
    assert not edited.scene[0].any()
    assert not edited.region_detail[0].any()
    assert all(torch.isfinite(getattr(edited, name)).all() for name in ("scene", "detail", "scene_tokens"))


def test_an_added_detail_word_goes_to_the_region_that_shows_it_best(stage: SemanticGuidance) -> None:
    plain = guide(stage, None)
    row = next(row for row in range(DETAIL) if row not in plain.detail_words[0])
    edited = guide(stage, wanted(detail={(0, row): 1}))
    _, _, regions, _, queries = inputs()
    best = int(stage.detail.scores(regions, queries.regions)[0, :, row].argmax())
    name = stage.detail_bank.words[row]
    assert [name in own for own in words(stage, edited, 0)] == [at == best for at in range(N)]
    others = torch.arange(N) != best
    assert torch.equal(edited.region_detail[0][others], plain.region_detail[0][others])
    assert torch.equal(edited.scene, plain.scene)


def test_a_named_region_has_its_word_and_no_other_region_changes(stage: SemanticGuidance) -> None:
    plain = guide(stage, None)
    row = next(row for row in range(SCENE, DETAIL) if row not in plain.detail_words[0])
    edits = {(0, 2, other): -1 for other in range(DETAIL)} | {(0, 2, row): 1}
    edited = guide(stage, wanted(detail={(0, row): 1}, regions=edits))
    assert words(stage, edited, 0)[2] == {stage.detail_bank.words[row]}
    others = torch.arange(N) != 2
    assert torch.equal(edited.region_detail[0][others], plain.region_detail[0][others])
    assert torch.equal(edited.region_detail[1:], plain.region_detail[1:])
    assert SCENE + row in edited.keywords.words[0]


def test_an_image_without_regions_takes_edits(stage: SemanticGuidance) -> None:
    edited = guide(stage, wanted(scene={(2, 1): 1}, detail={(2, 20): 1}))
    assert edited.scene_words[2, 0] == 1
    assert not edited.region_detail[2].any()
    assert SCENE + 20 in edited.keywords.words[2]


def test_an_added_word_has_the_strength_and_more_keeps_more(stage: SemanticGuidance) -> None:
    gains = [
        guide(stage, replace(wanted(scene={(0, 3): 1}), strength=strength)).keywords.gains[0, 3]
        for strength in (2.0, 4.0, 8.0)
    ]
    assert gains == sorted(gains)
    assert gains[0] < gains[2]


@given(
    scores=st.lists(st.floats(-20, 20, width=32), min_size=6, max_size=6),
    edits=st.lists(st.sampled_from([-1, 0, 1]), min_size=6, max_size=6),
    strength=st.floats(0.5, 9),
    count=st.integers(1, 8),
)
@settings(deadline=None)
def test_edits_mean_what_they_say(scores: list[float], edits: list[int], strength: float, count: int) -> None:
    raw, told = torch.tensor([scores]), torch.tensor([edits], dtype=torch.int8)
    after = steered(raw, told, strength)[0].tolist()
    for score, edit, now in zip(raw[0].tolist(), edits, after, strict=True):
        assert now == (score if edit == 0 else BARRED if edit < 0 else pytest.approx(max(score, strength), rel=1e-6))
    best = best_words(raw, told, strength, count)[0].tolist()
    ranks = [edits[row] for row in best]
    assert ranks == sorted(ranks, reverse=True)
    assert len(best) == min(count, 6)


def test_added_words_outweigh_the_rest_however_sharp_the_softmax() -> None:
    logits = torch.tensor([[30.0, -30.0, -5.0, 29.0], [1.0, 2.0, 3.0, 4.0]])
    edits = torch.tensor([[0, 1, 1, -1], [1, 0, -1, 0]], dtype=torch.int8)
    weights = raised(logits, edits, 2.0).softmax(-1)
    odds = math.exp(2.0)
    assert weights[0].tolist() == pytest.approx([1 / (1 + 2 * odds), odds / (1 + 2 * odds), odds / (1 + 2 * odds), 0])
    assert weights[1, 0].item() == pytest.approx(odds / (1 + odds))
    assert weights[1, 2] == 0
    alone = raised(torch.tensor([[3.0, 5.0]]), torch.tensor([[1, -1]], dtype=torch.int8), 2.0).softmax(-1)
    assert alone.tolist() == [[1.0, 0.0]]


def test_gains_bring_a_word_to_the_strength_whatever_its_frequency() -> None:
    prior = torch.tensor([-5.0, -1.0, -3.0, -2.0])
    gains = torch.tensor([[0.5, 9.0, 2.0, -1.0]])
    edits = torch.tensor([[1, 1, -1, -1]], dtype=torch.int8)
    after = steered_gains(gains, prior, edits, 4.0)
    assert after.tolist() == [[9.0, 9.0, -4.0, -5.0]]


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf")])
def test_strength_must_be_positive(strength: float) -> None:
    with pytest.raises(ValueError, match=r"steering\.strength must be positive and finite"):
        Steering.none(1, 2, 3, strength)
