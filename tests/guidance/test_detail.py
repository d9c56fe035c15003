import pytest
import torch

from regioncap.guidance import DetailGuidance

B, N, D, E, W, M = 3, 5, 12, 8, 20, 4


@pytest.fixture(params=[D, E], ids=["bank as wide as D", "bank of another width"])
def stage(make_bank, request) -> DetailGuidance:
    torch.manual_seed(1)
    stage = DetailGuidance(make_bank(W, request.param), D, count=M, momentum=0.1, prior=0.5)
    stage.similarity.fit(torch.randn(100, request.param) + 0.3)
    stage.log_temperature.data.fill_(0.4)
    return stage.eval()


@pytest.fixture
def fused() -> torch.Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def regions() -> torch.Tensor:
    return torch.randn(B, N, D, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def valid() -> torch.Tensor:
    return torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [False] * 5])


def test_detail_guidance_is_equation_12_region_by_region(stage, fused, regions, valid):
    detail = stage(fused, regions, valid)
    bank = stage.similarity.words
    joint_weight = torch.cat([stage.gate_fused.weight, stage.gate_text.weight], dim=1)  # W_g of [f ; f_text]
    for image in range(B):
        locals_ = []
        for slot in range(N):
            if not valid[image, slot]:
                assert not detail.regions[image, slot].any()
                continue
            v = regions[image, slot]
            q = stage.query.weight @ ((v - v.mean()) / torch.sqrt(v.var(unbiased=False) + 1e-5))
            scores = stage.similarity.scores(q, torch.arange(W))
            best = scores.argsort(descending=True)[:M]
            assert detail.words[image, slot].tolist() == best.tolist()
            weights = torch.softmax(scores[best] * stage.log_temperature.exp(), dim=0)
            torch.testing.assert_close(detail.weights[image, slot], weights, rtol=1e-4, atol=1e-5)
            text = sum(weight * bank[row] for weight, row in zip(weights, best, strict=True))
            if bank.shape[1] != D:
                text = stage.text.weight @ text
            gate = torch.sigmoid(joint_weight @ torch.cat([fused[image], text]) + stage.gate_fused.bias)
            torch.testing.assert_close(detail.gate[image, slot], gate, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(detail.regions[image, slot], gate * text, rtol=1e-4, atol=1e-4)
            locals_.append(gate * text)
        mean = torch.stack(locals_).mean(0) if locals_ else torch.zeros(D)
        torch.testing.assert_close(detail.summary[image], mean, rtol=1e-4, atol=1e-4)


def test_the_words_own_vectors_are_weighted_and_gated_and_their_mean_is_w_local(stage, fused, regions, valid):
    detail = stage(fused, regions, valid)
    torch.testing.assert_close(detail.tokens.mean(2), detail.regions, rtol=1e-4, atol=1e-5)
    for slot in range(3):
        for place, word in enumerate(detail.words[1, slot].tolist()):
            vector = M * detail.weights[1, slot, place] * stage.text(stage.similarity.words[word])
            torch.testing.assert_close(detail.tokens[1, slot, place], detail.gate[1, slot] * vector)


def test_padding_and_batch_mates_change_nothing(stage, fused, regions, valid):
    together = stage(fused, regions, valid)
    noisy = torch.where(valid[..., None], regions, 1e3 * torch.randn_like(regions))
    same = stage(fused, noisy, valid)
    for name in ("regions", "summary", "weights", "tokens", "gate"):
        assert torch.equal(getattr(same, name), getattr(together, name)), name
    assert torch.equal(same.words, together.words)
    alone = stage(fused[1:2], regions[1:2, :3], valid[1:2, :3])
    assert torch.equal(alone.words, together.words[1:2, :3])
    torch.testing.assert_close(alone.regions, together.regions[1:2, :3])
    torch.testing.assert_close(alone.summary, together.summary[1:2])


def test_everything_of_a_padded_region_is_zero_and_an_image_of_padding_is_finite(stage, fused, regions, valid):
    detail = stage(fused, regions, valid)
    for value in (detail.regions, detail.words, detail.weights, detail.tokens, detail.gate):
        assert not value[~valid].any()
        assert value[valid].any()
    assert not detail.summary[2].any()


def test_permuting_regions_only_permutes(stage, fused, regions, valid):
    order = torch.tensor([3, 0, 4, 2, 1])
    detail = stage(fused, regions, valid)
    permuted = stage(fused, regions[:, order], valid[:, order])
    assert torch.equal(permuted.words, detail.words[:, order])
    torch.testing.assert_close(permuted.regions, detail.regions[:, order])
    torch.testing.assert_close(permuted.summary, detail.summary)


def test_the_statistics_follow_the_valid_regions_in_training_alone(stage, fused, regions, valid):
    before = stage.similarity.mean.clone()
    stage(fused, regions, valid)
    assert torch.equal(stage.similarity.mean, before)
    stage.train()
    stage(fused, torch.where(valid[..., None], regions, float("nan")), valid)
    assert not torch.equal(stage.similarity.mean, before)
    assert torch.isfinite(stage.similarity.covariance).all()
    moved = stage.similarity.mean.clone()
    stage(fused, regions, torch.zeros_like(valid))
    assert torch.equal(stage.similarity.mean, moved)


def test_training_spreads_the_choice_over_words_that_a_common_direction_would_hide(make_bank):
    torch.manual_seed(0)
    stage = DetailGuidance(make_bank(W, D), D, count=1, momentum=0.1, prior=0.0)
    # All regions share one direction much stronger than what sets them apart, as features after a ReLU do.
    regions = 3 * torch.randn(D) + torch.randn(64, N, D)
    fused, valid = torch.randn(64, D), torch.ones(64, N, dtype=torch.bool)

    def largest_share() -> float:
        return stage.eval()(fused, regions, valid).words.flatten().bincount().max().item() / (64 * N)

    uncorrected = largest_share()
    stage.train()(fused, regions, valid)
    assert largest_share() < 0.5 * uncorrected


def test_the_choice_and_weights_survive_bfloat16(stage, fused, regions, valid):
    exact = stage(fused, regions, valid)
    with torch.autocast("cpu", torch.bfloat16):
        rough = stage(fused, regions, valid)
    assert rough.weights.dtype == torch.float32
    torch.testing.assert_close(rough.weights.sum(-1), valid.float())
    assert (rough.words[..., 0] == exact.words[..., 0]).float().mean() > 0.8
    torch.testing.assert_close(rough.summary.float(), exact.summary, rtol=0.1, atol=0.15)


def test_a_bank_smaller_than_m_is_taken_whole(make_bank, fused, regions, valid):
    detail = DetailGuidance(make_bank(2, D), D, count=M, momentum=0.1, prior=0.5)(fused, regions, valid)
    assert detail.words.shape == (B, N, 2)
    assert detail.words[0].sort(dim=-1).values.tolist() == [[0, 1]] * N
