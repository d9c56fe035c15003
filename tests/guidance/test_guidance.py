import math
from dataclasses import fields, replace

import pytest
import torch

from regioncap.guidance import (
    Guidance,
    KeywordQueries,
    KeywordShares,
    LearnedScores,
    NoGuidanceConfig,
    SemanticGuidance,
    SemanticGuidanceConfig,
    gate_statistics,
)

B, N, D = 4, 6, 16


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    fused = torch.randn(B, D, generator=generator)
    g = torch.nn.functional.normalize(torch.randn(B, D, generator=generator), dim=-1)
    regions = torch.randn(B, N, D, generator=generator)
    valid = torch.arange(N) < torch.tensor([[6], [4], [1], [3]])
    return fused, g, regions, valid


@pytest.fixture
def build(make_bank):
    def build(config: SemanticGuidanceConfig, detail_width: int = 10) -> SemanticGuidance:
        torch.manual_seed(0)
        return config.build(D, make_bank(12, D), make_bank(30, detail_width))

    return build


def tensors(guidance: Guidance) -> dict[str, torch.Tensor]:
    own = {field.name: getattr(guidance, field.name) for field in fields(guidance) if field.name != "keywords"}
    words = guidance.keywords
    return own | {f"keywords.{field.name}": getattr(words, field.name) for field in fields(words)}


def queries(seed: int = 9) -> KeywordQueries:
    generator = torch.Generator().manual_seed(seed)
    valid = torch.arange(N) < torch.tensor([[6], [4], [1], [3]])
    return KeywordQueries(
        scene=torch.randn(B, D, generator=generator),
        detail=torch.randn(B, 10, generator=generator),
        regions=torch.randn(B, N, 10, generator=generator) * valid[..., None],
        mix=torch.full((B,), 0.5),
    )


SHARES = KeywordShares(scene=torch.full((12,), 0.2), detail=torch.full((30,), 0.1), regions=torch.full((30,), 0.05))
LEARNED = SemanticGuidanceConfig(retrieval="learned")


def test_guidance_joins_both_scales(build, inputs):
    stage = build(SemanticGuidanceConfig()).eval()
    fused, g, regions, valid = inputs
    guidance = stage(*inputs)
    scene, detail = stage.scene(fused, g), stage.detail(fused, regions, valid)
    expected = {
        "scene": scene.summary,
        "scene_tokens": scene.tokens,
        "scene_words": scene.words,
        "scene_weights": scene.weights,
        "detail": detail.summary,
        "region_detail": detail.regions,
        "detail_words": detail.words,
        "detail_weights": detail.weights,
        "detail_tokens": detail.tokens,
        "gate": detail.gate,
    }
    words = {"keywords.gains", "keywords.words", "keywords.scores", "keywords.valid"}  # test_keywords.py has these
    assert expected.keys() == tensors(guidance).keys() - words
    for name, value in expected.items():
        assert torch.equal(getattr(guidance, name), value), name


@pytest.mark.parametrize("use", ["vectors", "tokens"])
def test_gradient_reaches_every_parameter_by_vectors_and_by_tokens(build, inputs, use):
    stage = build(SemanticGuidanceConfig())
    inputs[0].requires_grad_()
    inputs[2].requires_grad_()
    guidance = stage(*inputs)
    used = (
        [guidance.scene, guidance.detail]
        if use == "vectors"
        else [guidance.scene_tokens[:, :3], guidance.region_detail]
    )
    sum(value.square().sum() for value in used).backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert inputs[0].grad.any()
    assert inputs[2].grad[inputs[3]].any()
    assert not inputs[2].grad[~inputs[3]].any()


@pytest.mark.parametrize("field", fields(SemanticGuidanceConfig), ids=lambda field: field.name)
def test_every_config_field_changes_what_comes_out(build, inputs, field):
    other = {
        "scales": ("scene",),
        "retrieval": "learned",
        "words_of": "another",
        "scene_words": 3,
        "detail_words": 2,
        "keywords": 5,
        "scene_prior": 0.0,
        "detail_prior": 2.0,
        "hubness_momentum": 1.0,
    }[field.name]
    outcomes = []
    for config in (SemanticGuidanceConfig(), replace(SemanticGuidanceConfig(), **{field.name: other})):
        stage = build(config)
        for scale in (1.0, 2.0, 3.0):
            fused, g, regions, valid = inputs
            guidance = stage(fused, g, (scale * regions).roll(int(scale), -1) + regions, valid, queries())
        outcomes.append((guidance.scene, guidance.detail, guidance.keywords.words))
    assert any(
        first.shape != second.shape or not torch.allclose(first, second)
        for first, second in zip(*outcomes, strict=True)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scene_words", 0),
        ("detail_words", -1),
        ("keywords", 0),
        ("scene_prior", -0.5),
        ("detail_prior", float("inf")),
        ("hubness_momentum", 0.0),
        ("hubness_momentum", 1.5),
    ],
)
def test_a_config_out_of_range_names_the_field(field, value):
    with pytest.raises(ValueError, match=rf"guidance\.{field} .*got {value}"):
        SemanticGuidanceConfig(**{field: value})


def test_a_scene_bank_outside_the_images_space_is_refused(make_bank):
    with pytest.raises(ValueError, match="scene bank is 10 wide but the global vectors are 16"):
        SemanticGuidanceConfig().build(D, make_bank(12, 10), make_bank(12, D))


def test_a_saved_state_gives_the_same_guidance(build, inputs, tmp_path):
    stage = build(SemanticGuidanceConfig())
    stage.calibrate(torch.randn(30, D))
    stage(*inputs)
    torch.save(stage.state_dict(), tmp_path / "state.pt")
    again = build(SemanticGuidanceConfig())
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(torch.load(tmp_path / "state.pt"))
    expected, got = tensors(stage.eval()(*inputs)), tensors(again.eval()(*inputs))
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


def test_an_image_without_a_region_slot_has_scene_guidance_alone(build, inputs):
    fused, g, regions, valid = inputs
    guidance = build(SemanticGuidanceConfig())(fused, g, regions[:, :0], valid[:, :0])
    assert guidance.region_detail.shape == (B, 0, D)
    assert not guidance.detail.any()
    assert guidance.scene.any()


def test_no_guidance_has_no_parameters_no_words_and_zero_vectors(make_bank, inputs):
    stage = NoGuidanceConfig().build(D, make_bank(12, D), make_bank(30, D))
    stage.calibrate(torch.randn(30, D))
    assert not stage.state_dict()
    guidance = stage(*inputs)
    shapes = {name: tuple(value.shape) for name, value in tensors(guidance).items()}
    assert shapes == {
        "scene": (B, D),
        "detail": (B, D),
        "region_detail": (B, 0, D),
        "scene_tokens": (B, 0, D),
        "scene_words": (B, 0),
        "scene_weights": (B, 0),
        "detail_words": (B, 0, 0),
        "detail_weights": (B, 0, 0),
        "detail_tokens": (B, 0, 0, D),
        "gate": (B, 0, D),
        "keywords.gains": (B, 0),
        "keywords.words": (B, 0),
        "keywords.scores": (B, 0),
        "keywords.valid": (B, 0),
    }
    assert not guidance.scene.any()
    assert not guidance.detail.any()
    assert stage.chosen_words(guidance)[B - 1].scene == ()
    assert len(stage.chosen_words(guidance)) == B


def test_chosen_words_name_what_the_tensors_hold(build, inputs):
    stage = build(SemanticGuidanceConfig(scene_words=3, detail_words=2)).eval()
    guidance = stage(*inputs)
    chosen = stage.chosen_words(guidance)[1]
    rows = guidance.scene_words[1].tolist()
    assert dict(chosen.scene) == {
        stage.scene_bank.words[row]: weight
        for row, weight in zip(rows, guidance.scene_weights[1].tolist(), strict=True)
    }
    weights = [weight for _, weight in chosen.scene]
    assert weights == sorted(weights, reverse=True)
    assert [len(words) for words in chosen.detail] == [2, 2, 2, 2, 0, 0]
    assert {word for word, _ in chosen.detail[3]} == {
        stage.detail_bank.words[row] for row in guidance.detail_words[1, 3].tolist()
    }


def test_gate_statistics_count_valid_regions_alone(build, inputs):
    guidance = build(SemanticGuidanceConfig())(*inputs)
    gate = torch.full((B, N, 4), 0.9)
    gate[0, 0] = torch.tensor([0.01, 0.049, 0.5, 0.9])
    gate[1, 5] = 0.0  # padding
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    valid = inputs[3]
    edited = {field.name: getattr(guidance, field.name) for field in fields(guidance)}
    edited |= {"gate": gate, "scene_weights": weights, "scene_words": weights.long()}
    edited |= {"scene": gate[:, 0], "detail": gate[:, 0], "region_detail": gate, "scene_tokens": gate[:, :2]}
    edited["detail_tokens"] = edited["detail_tokens"][..., :4]  # as wide as the gates above
    statistics = gate_statistics(Guidance(**edited), valid)
    values = valid.sum().item() * 4
    assert statistics["gate_mean"] == pytest.approx(((values - 4) * 0.9 + 0.01 + 0.049 + 0.5 + 0.9) / values)
    assert statistics["gate_closed"] == pytest.approx(2 / values)
    assert statistics["scene_entropy"] == pytest.approx(0.75 * math.log(2))


def test_gate_statistics_leave_out_what_there_is_not(build, make_bank, inputs):
    fused, g, regions, valid = inputs
    nothing = NoGuidanceConfig().build(D, make_bank(12, D), make_bank(30, D))(*inputs)
    assert gate_statistics(nothing, valid) == {}
    no_region = torch.zeros_like(valid)
    padding = build(SemanticGuidanceConfig())(fused, g, regions, no_region)
    assert gate_statistics(padding, no_region).keys() == {"scene_entropy"}


@pytest.mark.parametrize("scales", [(), ("scene", "scene")])
def test_scales_name_each_scale_once(scales):
    with pytest.raises(ValueError, match=r"guidance\.scales must name scene, detail or both, once each"):
        SemanticGuidanceConfig(scales=scales)


@pytest.mark.parametrize("retrieval", ["similarity", "learned"])
def test_one_scale_alone_says_what_it_says_beside_the_other(build, inputs, retrieval):
    both = build(SemanticGuidanceConfig(retrieval=retrieval)).eval()
    both.calibrate(torch.randn(30, D), SHARES)
    whole = both(*inputs, queries())
    for scale, summary, words in (("scene", "scene", "scene_words"), ("detail", "detail", "detail_words")):
        stage = build(SemanticGuidanceConfig(retrieval=retrieval, scales=(scale,))).eval()
        state = {name: value for name, value in both.state_dict().items() if name in stage.state_dict()}
        stage.load_state_dict(state)
        alone = stage(*inputs, queries())
        torch.testing.assert_close(getattr(alone, summary), getattr(whole, summary))
        assert torch.equal(getattr(alone, words), getattr(whole, words))
        assert stage.keyword_words == (stage.scene_bank if scale == "scene" else stage.detail_bank).words
    assert not alone.scene.any()
    assert alone.scene_words.shape == (B, 0)


def test_learned_retrieval_takes_the_words_that_heads_name(build, inputs):
    stage = build(LEARNED).eval()
    stage.calibrate(torch.randn(30, D), SHARES)
    said = queries()
    guidance = stage(*inputs, said)
    assert isinstance(stage.scene.similarity, LearnedScores)
    scores = stage.scene.similarity.all(said.scene)
    assert torch.equal(guidance.scene_words, scores.topk(LEARNED.scene_words).indices)
    regions = stage.detail.similarity.all(said.regions)
    valid = inputs[3]
    assert torch.equal(guidance.detail_words[valid], regions.topk(LEARNED.detail_words).indices[valid])
    assert not guidance.detail_weights[~valid].any()


def test_learned_keys_decide_which_words_are_found_at_every_scale(build, inputs):
    _, g, regions, valid = inputs
    generator = torch.Generator().manual_seed(4)
    keys = {
        "scene_keys": torch.randn(12, D, generator=generator),
        "detail_keys": torch.randn(30, 10, generator=generator),
    }
    stage, asked = build(LEARNED).eval(), queries()
    stage.calibrate(torch.randn(30, D), replace(SHARES, **keys))
    found = stage.ranked(g, regions, valid, asked, count=3)
    of_scene = asked.scene @ keys["scene_keys"].T / D**0.5
    of_regions = asked.regions @ keys["detail_keys"].T / 10**0.5
    best = of_regions.masked_fill(~valid[..., None], -torch.inf).amax(1)
    of_image = asked.detail @ keys["detail_keys"].T / 10**0.5 + 0.5 * best
    assert torch.equal(found.scene, of_scene.topk(3).indices)  # all words are equally frequent
    assert torch.equal(found.regions[valid], of_regions.topk(3).indices[valid])
    assert torch.equal(found.detail, of_image.topk(3).indices)


def test_learned_retrieval_without_queries_or_shares_says_so(build, inputs):
    stage = build(LEARNED)
    with pytest.raises(ValueError, match="pass queries"):
        stage(*inputs)
    with pytest.raises(ValueError, match="pass their shares in training"):
        stage.calibrate(torch.randn(30, D))


@pytest.mark.parametrize("use", ["vectors", "tokens"])
def test_gradient_reaches_every_parameter_of_learned_retrieval(build, inputs, use):
    stage = build(LEARNED)
    stage.calibrate(torch.randn(30, D), SHARES)
    guidance = stage(*inputs, queries())
    used = (
        [guidance.scene, guidance.detail]
        if use == "vectors"
        else [guidance.scene_tokens[:, :3], guidance.region_detail]
    )
    sum(value.square().sum() for value in used).backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_shuffled_guidance_is_that_of_the_image_before(build, inputs):
    own, shuffled = (build(SemanticGuidanceConfig(words_of=whose)).eval() for whose in ("own", "another"))
    mine, theirs = own(*inputs), shuffled(*inputs)
    for name in ("scene", "detail", "scene_words", "scene_tokens"):
        assert torch.equal(getattr(theirs, name), getattr(mine, name).roll(1, 0)), name
    assert torch.equal(theirs.keywords.gains, mine.keywords.gains.roll(1, 0))
    valid = inputs[3]
    assert not theirs.region_detail[~valid].any()
    assert torch.equal(theirs.region_detail[1, :4], mine.region_detail[0, :4])


def test_ranked_words_are_those_of_the_highest_scores(build, inputs):
    stage = build(LEARNED).eval()
    stage.calibrate(torch.randn(30, D), SHARES)
    _, g, regions, valid = inputs
    said = queries()
    ranked = stage.ranked(g, regions, valid, said, count=3)
    keywords = stage(*inputs, said).keywords
    detail = keywords.gains[:, 12:] + stage.image_detail.prior
    assert torch.equal(ranked.detail, detail.topk(3).indices)
    similar = build(SemanticGuidanceConfig()).eval()
    ranked = similar.ranked(g, regions, valid, count=3)
    scores = similar.detail.scores(regions, None).masked_fill(~valid[..., None], -torch.inf).amax(1)
    assert torch.equal(ranked.detail, scores.topk(3).indices)
    assert torch.equal(ranked.scene, similar(*inputs).scene_words[:, :3])
