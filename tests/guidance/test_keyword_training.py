"""Teaching keyword heads: losses against slow loops, what is learned, and who says what of whom."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from regioncap.guidance import (
    KeywordBank,
    KeywordHeadsConfig,
    KeywordInputs,
    KeywordShares,
    KeywordTargets,
    KeywordTeacher,
    KeywordTrainingConfig,
    LearnedScores,
    RegionShares,
    SparseShares,
    fold_of,
    held_out_queries,
)
from regioncap.guidance.learned_scores import image_gains

IMAGES, N, G, R = 60, 3, 8, 8
SCENE, DETAIL = 4, 5
CONFIG = KeywordTrainingConfig(
    heads=KeywordHeadsConfig(hidden=32, dropout=0.1, region_dropout=0.1),
    epochs=30,
    batch_size=20,
    learning_rate=1e-2,
    folds=2,
    precision="fp32",
)


def bank(words: int) -> KeywordBank:
    generator = torch.Generator().manual_seed(words)
    return KeywordBank(
        words=tuple(f"w{number}" for number in range(words)),
        counts=(3,) * words,
        embeddings=torch.randn(words, 16, generator=generator),
    )


BANKS = bank(SCENE), bank(DETAIL)


class World:
    """Images whose first channels say their scene word, and regions whose first channels say their detail word."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.scene = torch.randint(SCENE, (IMAGES,), generator=generator)
        self.detail = torch.randint(DETAIL, (IMAGES, N), generator=generator)
        self.valid = torch.ones(IMAGES, N, dtype=torch.bool)
        self.valid[::4, 2] = False
        self.pooled = torch.randn(IMAGES, G, generator=generator) * 0.2
        self.pooled[torch.arange(IMAGES), self.scene] += 2
        self.regions = torch.randn(IMAGES, N, R, generator=generator) * 0.2
        self.regions.scatter_add_(2, self.detail[..., None], torch.full((IMAGES, N, 1), 2.0))

    def read(self, rows: torch.Tensor) -> KeywordInputs:
        boxes = torch.tensor([0.1, 0.1, 0.5, 0.5]).expand(len(rows), N, 4)
        valid = self.valid[rows]
        return KeywordInputs(
            pooled=self.pooled[rows], regions=self.regions[rows] * valid[..., None], boxes=boxes, valid=valid
        )

    def targets(self, *, phrases: bool) -> KeywordTargets:
        shown = [
            {int(word): 1.0 for word, real in zip(words, valid, strict=True) if real}
            for words, valid in zip(self.detail, self.valid, strict=True)
        ]
        named = RegionShares.of([[{int(word): 1.0} for word in own] for own in self.detail])
        return KeywordTargets(
            scene=SparseShares.of([{int(word): 1.0} for word in self.scene]),
            detail=SparseShares.of(shown),
            regions=named if phrases else None,
        )


@pytest.mark.parametrize("phrases", [True, False])
def test_heads_learn_the_words_of_images_and_regions_they_were_not_taught(phrases: bool) -> None:
    world = World()
    teacher = KeywordTeacher(CONFIG, world.read, world.targets(phrases=phrases), BANKS)
    taught, rest = torch.arange(40), torch.arange(40, IMAGES)
    losses: list[float] = []
    heads = teacher.teach(taught, lambda epoch, values: losses.append(sum(values.values())))
    assert len(losses) == CONFIG.epochs
    assert losses[-1] < 0.5 * losses[0]
    assert not heads.training
    assert not any(parameter.requires_grad for parameter in heads.parameters())
    said = heads(world.read(rest))
    scores = teacher._scene.all(said.scene)
    assert (scores.argmax(1) == world.scene[rest]).float().mean() > 0.9
    real = world.valid[rest]
    named = teacher._regions.all(said.regions).argmax(-1) == world.detail[rest]
    assert named[real].float().mean() > 0.85
    of_regions = teacher._regions.gains(said.regions)
    gains = image_gains(teacher._detail.gains(said.detail), of_regions, real, said.mix) + teacher._detail.prior
    best = gains.argmax(1)
    shown = (world.detail[rest] == best[:, None]) & real
    assert shown.any(1).float().mean() > 0.85


def test_without_phrases_the_loss_is_the_noisy_or_of_the_regions() -> None:
    world = World()
    teacher = KeywordTeacher(CONFIG, world.read, world.targets(phrases=False), BANKS)
    rows = torch.tensor([4, 9])
    torch.manual_seed(1)
    heads = CONFIG.heads.build(G, R, *BANKS).eval()
    with torch.no_grad():
        found = teacher._losses(heads, rows)["regions"].item()
        scores = teacher._regions.all(heads(world.read(rows)).regions)
    total = 0.0
    for image, row in enumerate(rows.tolist()):
        for word in range(DETAIL):
            nowhere = 1.0
            for slot in range(N):
                if world.valid[row, slot]:
                    nowhere *= 1 - 1 / (1 + math.exp(-scores[image, slot, word].item()))
            shown = any(world.valid[row, slot] and world.detail[row, slot] == word for slot in range(N))
            total -= math.log(1 - nowhere) if shown else math.log(nowhere)
    assert found == pytest.approx(total / len(rows), rel=1e-4)


def test_images_are_heard_by_the_heads_of_their_fold() -> None:
    world = World()
    torch.manual_seed(0)
    heads = [CONFIG.heads.build(G, R, *BANKS).eval() for _ in range(3)]
    rows = torch.tensor([5, 0, 7, 2])
    folds = fold_of(rows, 3)
    assert folds.tolist() == [2, 0, 1, 2]
    inputs = world.read(rows)
    with torch.no_grad():
        said = held_out_queries(heads, folds, inputs)
        for b, fold in enumerate(folds.tolist()):
            alone = heads[fold](world.read(rows[b : b + 1]))
            for name in ("scene", "detail", "regions", "mix"):
                torch.testing.assert_close(getattr(said, name)[b : b + 1], getattr(alone, name))


def test_the_same_seed_gives_the_same_heads_and_leaves_the_callers_chance_alone() -> None:
    world = World()
    teacher = KeywordTeacher(replace(CONFIG, epochs=2), world.read, world.targets(phrases=True), BANKS)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = teacher.teach(torch.arange(20))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    other = teacher.teach(torch.arange(20))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    third = KeywordTeacher(replace(CONFIG, epochs=2, seed=1), world.read, world.targets(phrases=True), BANKS)
    assert not torch.equal(third.teach(torch.arange(20)).scene.weight, one.scene.weight)


@pytest.mark.parametrize("has", [True, False])
def test_half_precision_is_used_where_the_processor_has_it(processor: Callable[[bool], None], has: bool) -> None:
    processor(has)
    world = World()
    exact, half = (
        KeywordTeacher(
            replace(CONFIG, epochs=2, precision=precision), world.read, world.targets(phrases=True), BANKS
        ).teach(torch.arange(20))
        for precision in ("fp32", "bf16")
    )
    assert torch.equal(exact.scene.weight, half.scene.weight) != has


def test_keys_are_learned_once_and_lie_where_folds_look_too() -> None:
    world = World()
    config = replace(CONFIG, keys="learned", epochs=2)
    teacher = KeywordTeacher(config, world.read, world.targets(phrases=True), BANKS)
    text = LearnedScores(BANKS[0]).keys
    taught = teacher.teach_all()
    whole = next(taught)
    keys = teacher.shares.scene_keys, teacher.shares.detail_keys
    assert keys[0] is not None
    assert not torch.equal(keys[0], text)
    assert torch.equal(teacher._regions.keys, teacher._detail.keys)
    folds = list(taught)
    assert len(folds) == config.folds
    for before, after in zip(keys, (teacher.shares.scene_keys, teacher.shares.detail_keys), strict=True):
        assert torch.equal(before, after)
        assert not after.requires_grad
    first = whole.state_dict()["scene_hidden.1.weight"]
    for fold in folds:  # from weights of their own
        assert torch.nn.functional.cosine_similarity(fold.scene_hidden[1].weight, first).mean() < 0.5


def test_keys_tell_words_apart_that_the_text_encoder_does_not() -> None:
    world = World()
    alike = tuple(replace(own, embeddings=torch.ones_like(own.embeddings) + 1e-3 * own.embeddings[:1]) for own in BANKS)
    losses: dict[str, list[float]] = {"text": [], "learned": []}
    for keys, found in losses.items():
        teacher = KeywordTeacher(replace(CONFIG, keys=keys), world.read, world.targets(phrases=True), alike)
        teacher.teach(
            torch.arange(40), lambda _, values, found=found: found.append(values["scene"]), learn_keys=keys == "learned"
        )
    assert losses["learned"][-1] < 0.5 * losses["text"][-1]


def test_folds_know_nothing_by_heart_of_images_they_never_saw() -> None:
    """Planted: images and words are chance. By learned keys the heads of a fold must not hear of its images either."""
    generator = torch.Generator().manual_seed(1)
    images, words = 40, 30
    pooled = torch.randn(images, 64, generator=generator)
    said = [
        {word: 1.0 for word in range(words) if torch.rand((), generator=generator) < 0.1 or word == row % words}
        for row in range(images)
    ]
    boxes = torch.tensor([0.1, 0.1, 0.5, 0.5]).expand(images, 1, 4)

    def read(rows: torch.Tensor) -> KeywordInputs:
        valid = torch.ones(len(rows), 1, dtype=torch.bool)
        return KeywordInputs(pooled=pooled[rows], regions=torch.zeros(len(rows), 1, R), boxes=boxes[rows], valid=valid)

    shares = SparseShares.of(said)
    targets = KeywordTargets(scene=shares, detail=shares, regions=None)
    config = replace(CONFIG, heads=KeywordHeadsConfig(hidden=64, dropout=0.0), keys="learned", epochs=60)
    teacher = KeywordTeacher(config, read, targets, (bank(words), bank(words)))
    whole, *folds = teacher.teach_all()
    rows = torch.arange(images)
    with torch.no_grad():
        seen = teacher._scene.gains(whole(read(rows)).scene)
        unseen = teacher._scene.gains(held_out_queries(folds, fold_of(rows, 2), read(rows)).scene)
    right = shares.dense(rows, words) > 0
    assert seen[right].mean() - seen[~right].mean() > 3
    assert abs(unseen[right].mean() - unseen[~right].mean()) < 0.5


def test_shares_without_phrases_are_those_of_images_over_the_regions_of_each() -> None:
    world = World()
    shares = KeywordShares.of(world.targets(phrases=False), SCENE, DETAIL, 2.5)
    torch.testing.assert_close(shares.regions, shares.detail / 2.5)
    torch.testing.assert_close(shares.scene, torch.bincount(world.scene, minlength=SCENE) / IMAGES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 0}, r"keywords\.epochs must be at least 1, got 0"),
        ({"folds": 1}, r"keywords\.folds must be at least 2, got 1"),
        ({"batch_size": 0}, r"keywords\.batch_size must be at least 1, got 0"),
        ({"learning_rate": 0.0}, r"keywords\.learning_rate must be positive, got 0\.0"),
        ({"weight_decay": -1.0}, r"keywords\.weight_decay must not be negative, got -1\.0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_one_image_cannot_teach() -> None:
    one = SparseShares.of([{0: 1.0}])
    targets = KeywordTargets(scene=one, detail=one, regions=None)
    with pytest.raises(ValueError, match="keyword heads need at least 2 training images, got 1"):
        KeywordTeacher(CONFIG, World().read, targets, BANKS)


def test_slots_that_a_batch_does_not_need_change_nothing() -> None:
    """A store leaves out slots that are padding in all images of a batch; regions keep their phrases all the same."""
    world = World()
    world.valid[[4, 9], 2] = False

    def trimmed(rows: torch.Tensor) -> KeywordInputs:
        whole = world.read(rows)
        slots = int(whole.valid.sum(1).max())
        return KeywordInputs(
            pooled=whole.pooled,
            regions=whole.regions[:, :slots],
            boxes=whole.boxes[:, :slots],
            valid=whole.valid[:, :slots],
        )

    heads = CONFIG.heads.build(G, R, *BANKS).eval()
    targets, rows = world.targets(phrases=True), torch.tensor([4, 9])
    assert trimmed(rows).valid.shape[1] == 2
    with torch.no_grad():
        whole, part = (
            KeywordTeacher(CONFIG, read, targets, BANKS)._losses(heads, rows) for read in (world.read, trimmed)
        )
    for name, loss in whole.items():
        torch.testing.assert_close(part[name], loss)
