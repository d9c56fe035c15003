import math

import pytest
import torch

from regioncap.guidance import SceneGuidance

B, D, W, M = 4, 12, 10, 3


@pytest.fixture
def stage(make_bank) -> SceneGuidance:
    torch.manual_seed(1)
    return SceneGuidance(make_bank(W, D), count=M, prior=0.5)


@pytest.fixture
def fused() -> torch.Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def g() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(3)), dim=-1)


@torch.no_grad()
def test_scene_guidance_is_equation_11_image_by_image(stage, fused, g):
    stage.calibrate(torch.randn(50, D))
    scene = stage(fused, g)
    bank = stage.similarity.words
    for image in range(B):
        ranked = stage.similarity.scores(math.sqrt(D) * g[image], torch.arange(W)).argsort(descending=True)
        chosen = ranked[:M]
        assert scene.words[image].tolist() == chosen.tolist()
        f = fused[image]
        q = stage.query.weight @ ((f - f.mean()) / torch.sqrt(f.var(unbiased=False) + 1e-5))
        exponents = [math.exp(float(q @ bank[row]) / math.sqrt(D)) for row in chosen]
        weights = torch.tensor([e / sum(exponents) for e in exponents])
        torch.testing.assert_close(scene.weights[image], weights, rtol=1e-4, atol=1e-5)
        summary = sum(weight * bank[row] for weight, row in zip(weights, chosen, strict=True))
        torch.testing.assert_close(scene.summary[image], summary, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(scene.tokens[image], M * weights[:, None] * bank[chosen], rtol=1e-4, atol=1e-4)


def test_batch_mates_change_nothing_in_training_or_evaluation(stage, fused, g):
    for mode in (True, False):
        stage.train(mode)
        together = stage(fused, g)
        alone = stage(fused[2:3], g[2:3])
        assert torch.equal(alone.words, together.words[2:3])
        torch.testing.assert_close(alone.summary, together.summary[2:3])


def test_the_image_chooses_the_words_and_the_fused_vector_weighs_them(stage, fused, g):
    scene = stage(fused, g)
    other_image = stage(fused, g.flip(0))
    assert torch.equal(other_image.words, scene.words.flip(0))
    other_fused = stage(fused.flip(0), g)
    assert torch.equal(other_fused.words, scene.words)
    assert not torch.allclose(other_fused.weights, scene.weights)


def test_weights_are_neither_flat_nor_single_for_a_fused_vector_of_any_length(stage, fused, g):
    for length in (0.01, 1.0, 100.0):
        weights = stage(length * fused, g).weights
        torch.testing.assert_close(weights.sum(1), torch.ones(B))
        entropy = torch.special.entr(weights).sum(1).mean()
        assert 0.2 * math.log(M) < entropy < 0.999 * math.log(M)


def test_calibration_changes_the_choice(stage, fused, g):
    before = stage(fused, g).words
    stage.calibrate(g.repeat(5, 1) + 0.01 * torch.randn(5 * B, D))
    assert not torch.equal(stage(fused, g).words, before)


def test_a_bank_smaller_than_m_is_taken_whole(make_bank, fused, g):
    scene = SceneGuidance(make_bank(2, D), count=M, prior=0.5)(fused, g)
    assert scene.words.sort(dim=1).values.tolist() == [[0, 1]] * B
    assert scene.tokens.shape == (B, 2, D)
