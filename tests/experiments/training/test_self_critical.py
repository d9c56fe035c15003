"""Self-critical training against REINFORCE written out, and against the exact gradient of the expected reward."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from pycocoevalcap.cider.cider_scorer import CiderScorer
from torch import Tensor

from regioncap.decoder import SearchConfig, Wording, draw_captions, search
from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.objectives.objective import Lessons, Losses, Targets
from regioncap.experiments.training.objectives.self_critical import SelfCritical, SelfCriticalConfig
from regioncap.experiments.training.phases import PhaseConfig, set_trainable

ROWS = torch.tensor([3, 0, 7])


@pytest.fixture(scope="module")
def lessons(prepared: Prepared) -> Lessons:
    return Lessons(
        captions=prepared.captions,
        references=tuple(image.captions for image in prepared.train_images),
        tokenizer=prepared.tokenizer,
        scene_bank=prepared.scene_bank,
        detail_bank=prepared.detail_bank,
    )


@pytest.fixture
def captioner(make_captioner: Callable[[str], Captioner]) -> Iterator[Captioner]:
    """In training mode, its words spread less than at the start, so that captions end and repeat."""
    captioner = make_captioner("+graph+guidance")
    with torch.no_grad():
        captioner.decoder.model.transformer.wte.weight.mul_(8)
    set_trainable(captioner.train(), PhaseConfig(share=1.0, clip_layers=2))
    yield captioner
    captioner.eval()


def objective(lessons: Lessons, **fields: Any) -> SelfCritical:
    return SelfCriticalConfig(**{"samples": 4, "max_new_tokens": 6, "temperature": 1.0, **fields}).build(lessons, 32)


def targets(told: SelfCritical, rows: Tensor = ROWS, seed: int = 0) -> Targets:
    return told.targets(rows, 2, torch.Generator().manual_seed(seed))


def seen(captioner: Captioner, prepared: Prepared, rows: Tensor = ROWS) -> Condition:
    return captioner.condition(*prepared.seen(rows))


def gradients(losses: Losses, weights: Any, captioner: Captioner) -> dict[str, Tensor]:
    captioner.zero_grad(set_to_none=True)
    sum(weights[name] * term for name, term in losses.terms.items()).backward()
    return {name: p.grad.clone() for name, p in captioner.named_parameters() if p.grad is not None}


def assert_equal_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """To rounding, which is of the size of what is added up: some parameters' gradients all but vanish."""
    assert found.keys() == wanted.keys()
    size = sum(gradient.square().sum() for gradient in wanted.values()).sqrt()
    for name, gradient in wanted.items():
        error = (found[name] - gradient).norm()
        assert error <= 1e-3 * gradient.norm() + 1e-5 * size, name
    assert size > 0.01


def coco_rewards(lessons: Lessons, rows: list[int], captions: list[str], end: str = " <end>") -> list[float]:
    """pycocoevalcap's CIDEr-D with the document frequencies of all training captions."""
    truth = [[lessons.tokenizer.normalise(caption) + end for caption in own] for own in lessons.references]
    everything = CiderScorer()
    for own in truth:
        everything.cook_append(own[0], own)
    everything.compute_doc_freq()
    scores = []
    for row, caption in zip(rows, captions, strict=True):
        all_and_this = CiderScorer()
        for own in truth:
            all_and_this.cook_append(own[0], own)
        all_and_this.document_frequency = everything.document_frequency
        all_and_this.ctest = [
            CiderScorer(caption, truth[row]).ctest[0] if at == row else {} for at in range(len(truth))
        ]
        scores.append(float(all_and_this.compute_cider()[row]))
    return scores


def spoken(lessons: Lessons, ids: list[int], end: str = " <end>") -> str:
    """As the reward reads it, where tokens are words."""
    words = lessons.tokenizer.words
    return " ".join(words[i] for i in ids if i != lessons.tokenizer.eos) + (
        end if ids[-1] == lessons.tokenizer.eos else ""
    )


def reward_of(told: SelfCritical, row: int, ids: list[int]) -> float:
    """What the objective holds a caption for."""
    return float(told._reward.score(np.array([row]), told._texts([ids]))[0])


@pytest.mark.parametrize(
    ("baseline", "end", "temperature"),
    [("others", "word", 1.0), ("others", "silent", 1.0), ("greedy", "word", 1.0), ("others", "word", 1.3)],
)
def test_gradient_is_that_of_reinforce_written_out(
    captioner: Captioner, prepared: Prepared, lessons: Lessons, baseline: str, end: str, temperature: float
) -> None:
    """Each caption's log p from the decoder's forward pass, its reward from pycocoevalcap; down to the adapter."""
    captioner.eval()
    told = objective(lessons, baseline=baseline, end=end, temperature=temperature)
    given = targets(told)
    found = told(captioner, seen(captioner, prepared), given)
    ours = gradients(found, told.weights, captioner)

    mark = " <end>" if end == "word" else ""
    condition = seen(captioner, prepared)
    prefix, decoder = condition.prefix, captioner.decoder.eval()
    stepping = decoder.incremental()
    drawn = draw_captions(
        stepping, prefix.embeddings.detach(), prefix.valid, given[1], prefix.added, prefix.bias.detach(), temperature
    )
    greedy = search(
        stepping,
        prefix.embeddings.detach(),
        prefix.valid,
        SearchConfig(beams=1, max_new_tokens=6),
        Wording.of(lessons.tokenizer),
        bias=prefix.bias.detach(),
    )
    total = torch.zeros(())
    rewards_seen = []
    for b in range(len(ROWS)):
        ids = [drawn.tokens[b, k, : drawn.lengths[b, k]].tolist() for k in range(4)]
        rewards = coco_rewards(lessons, [int(ROWS[b])] * 4, [spoken(lessons, own, mark) for own in ids], mark)
        said = greedy.tokens[b, 0, : greedy.lengths[b, 0]].tolist()
        (lead,) = coco_rewards(lessons, [int(ROWS[b])], [spoken(lessons, said, mark)], mark)
        rewards_seen += rewards
        one = slice(b, b + 1)
        for k in range(4):
            base = lead if baseline == "greedy" else sum(rewards[j] for j in range(4) if j != k) / 3
            tokens = torch.tensor([[[lessons.tokenizer.bos, *ids[k]]]])
            logits = decoder(
                prefix.embeddings[one],
                prefix.valid[one],
                tokens[..., :-1],
                torch.ones_like(tokens[..., :-1], dtype=torch.bool),
                None,
                prefix.bias[one],
            )[0, 0]
            for t, word in enumerate(ids[k]):
                total = total - (rewards[k] - base) * (logits[t] / temperature).log_softmax(-1)[word] / 12
    captioner.zero_grad(set_to_none=True)
    total.backward()
    assert found.terms["policy"].item() == pytest.approx(total.item(), abs=1e-4)
    assert found.observed["reward.mean"] == pytest.approx(sum(rewards_seen) / 12, abs=1e-5)
    assert len(ours) > 20
    assert_equal_gradients(ours, {name: p.grad for name, p in captioner.named_parameters() if p.grad is not None})


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_expected_gradient_is_that_of_the_expected_reward(
    captioner: Captioner, prepared: Prepared, lessons: Lessons, baseline: str
) -> None:
    """All captions of two tokens at most, each with its probability and reward, against very many that are drawn."""
    captioner.eval()
    decoder, tokenizer = captioner.decoder, lessons.tokenizer
    with torch.no_grad():
        condition = seen(captioner, prepared, torch.tensor([5]))
    prefix = condition.prefix
    others = [word for word in range(decoder.vocab_size) if word != tokenizer.eos]
    captions = [[tokenizer.eos], *map(list, product(others, range(decoder.vocab_size)))]

    def surprise(embeddings: Tensor) -> Tensor:
        """Each caption as an image's only one: beside each other they would attend to a square of their number."""
        tokens = torch.tensor([[[tokenizer.bos, *ids, *[tokenizer.pad] * (2 - len(ids))]] for ids in captions])
        mask = torch.tensor([[[True, *[True] * len(ids), *[False] * (2 - len(ids))]] for ids in captions])
        each = [tensor.expand(len(captions), *tensor.shape[1:]) for tensor in (embeddings, prefix.valid, prefix.bias)]
        return decoder.token_losses(each[0], each[1], tokens, mask, None, each[2]).sum(-1)[:, 0]

    exact_leaf = prefix.embeddings.clone().requires_grad_()
    p = (-surprise(exact_leaf)).exp()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-4)
    likely = [spoken(lessons, captions[at], "") for at in p.topk(4).indices.tolist()]  # else hardly any is rewarded
    references = tuple(tuple(likely) if row == 5 else own for row, own in enumerate(lessons.references))
    told = objective(replace(lessons, references=references), baseline=baseline, samples=100, max_new_tokens=2)
    rewards = torch.from_numpy(told._reward.score(np.full(len(captions), 5), told._texts(captions))).float()
    (-(p * rewards).sum()).backward()

    leaf = prefix.embeddings.clone().requires_grad_()
    rounds = 60
    chance = torch.Generator().manual_seed(0)
    estimates, means = [], []
    for _ in range(rounds):
        leaf.grad = None
        drawn = told(
            captioner,
            replace(condition, prefix=replace(prefix, embeddings=leaf)),
            told.targets(torch.tensor([5]), 1, chance),
        )
        drawn.terms["policy"].backward()
        estimates.append(leaf.grad.flatten())
        means.append(drawn.observed["reward.mean"])
    found = torch.stack(estimates)
    error = found.std(0) / rounds**0.5
    assert abs(sum(means) / rounds - (p * rewards).sum().item()) < 0.05 * (p * rewards).sum().item()
    exact = exact_leaf.grad.flatten()
    assert torch.cosine_similarity(found.mean(0), exact, dim=0) > 0.95
    assert ((found.mean(0) - exact).abs() < 4.5 * error + 1e-7).all()


def test_every_parameter_that_trains_gets_a_gradient(
    captioner: Captioner, prepared: Prepared, lessons: Lessons
) -> None:
    told = objective(lessons)
    found = gradients(told(captioner, seen(captioner, prepared), targets(told)), told.weights, captioner)
    trained = {name for name, parameter in captioner.named_parameters() if parameter.requires_grad}
    without = trained - set(found)
    assert all(name.startswith(("text_projection", "clip_head.text")) for name in without), without
    assert all(gradient.abs().sum() > 0 for gradient in found.values())
    for stage in ("adapter", "graph", "fusion", "guidance", "prefix", "decoder.model", "decoder.word_bias"):
        assert any(name.startswith(stage) for name in found), stage


def test_parts_of_a_batch_give_the_gradient_of_the_whole(
    captioner: Captioner, prepared: Prepared, lessons: Lessons
) -> None:
    """Also with the cross-entropy of training captions, which counts tokens."""
    told = objective(lessons, generation_weight=0.5)
    captioner.eval()
    rows = torch.tensor([3, 0, 7, 2, 9])
    whole = targets(told, rows)
    images = prepared.seen(rows)[0]
    wanted = gradients(told(captioner, seen(captioner, prepared, rows), whole), told.weights, captioner)
    counts = told.counts(images, whole)
    assert counts["policy"] == 20
    total: dict[str, Tensor] = {}
    for begin, end in ((0, 2), (2, 5)):
        part = tuple(tensor[begin:end] for tensor in whole)
        own = told.counts(images, part)
        losses = told(captioner, seen(captioner, prepared, rows[begin:end]), part)
        share = {name: weight * own[name] / counts[name] for name, weight in told.weights.items()}
        for name, gradient in gradients(losses, share, captioner).items():
            total[name] = total.get(name, torch.zeros(())) + gradient
    assert_equal_gradients(total, wanted)


def test_the_same_chance_draws_the_same_and_another_draws_others(
    captioner: Captioner, prepared: Prepared, lessons: Lessons
) -> None:
    told = objective(lessons)
    condition = seen(captioner, prepared)
    first, again, other = (told(captioner, condition, targets(told, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.terms["policy"], again.terms["policy"])
    assert first.observed == again.observed != other.observed


def test_the_decoders_dropout_is_off_and_training_mode_comes_back(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, lessons: Lessons
) -> None:
    """What is drawn and what its log p is computed by must be one and the same decoder."""
    captioner = make_captioner("+graph+guidance")
    told = objective(lessons)
    with torch.no_grad():
        condition = seen(captioner, prepared)
        wanted = told(captioner, condition, targets(told)).terms["policy"]
    captioner.decoder.dropout.dropped = 128
    captioner.train()
    for _ in range(2):
        assert torch.equal(told(captioner, condition, targets(told)).terms["policy"].detach(), wanted)
    assert captioner.decoder.training
    assert captioner.decoder.dropout.training


def test_what_is_observed_is_of_what_is_drawn(captioner: Captioner, prepared: Prepared, lessons: Lessons) -> None:
    told = objective(lessons)
    given = targets(told)
    condition = seen(captioner, prepared)
    observed = told(captioner, condition, given).observed
    prefix = condition.prefix
    drawn = draw_captions(
        captioner.decoder.eval().incremental(),
        prefix.embeddings.detach(),
        prefix.valid,
        given[1],
        None,
        prefix.bias.detach(),
    )
    texts = [[spoken(lessons, drawn.tokens[b, k, : drawn.lengths[b, k]].tolist()) for k in range(4)] for b in range(3)]
    rewards = [coco_rewards(lessons, [int(ROWS[b])] * 4, texts[b]) for b in range(3)]
    assert observed["reward.mean"] == pytest.approx(sum(map(sum, rewards)) / 12, abs=1e-5)
    assert observed["reward.baseline"] == pytest.approx(observed["reward.mean"], abs=1e-5)
    assert observed["reward.best"] == pytest.approx(sum(map(max, rewards)) / 3, abs=1e-5)
    assert observed["drawn.length"] == pytest.approx(drawn.lengths.float().mean().item())
    assert observed["drawn.distinct"] == pytest.approx(sum(len(set(own)) for own in texts) / 12)


def test_an_end_is_worth_something_only_where_it_is_a_word(lessons: Lessons) -> None:
    tokenizer = lessons.tokenizer
    whole = tokenizer.encode([lessons.references[0][0]]).tokens[0, 1:].tolist()
    assert whole[-1] == tokenizer.eos
    heard, silent = objective(lessons, end="word"), objective(lessons, end="silent")
    assert reward_of(silent, 0, whole) == reward_of(silent, 0, whole[:-1])
    assert reward_of(heard, 0, whole) > reward_of(heard, 0, whole[:-1])
    assert reward_of(heard, 0, whole[:-3]) < reward_of(heard, 0, whole)


def test_special_tokens_are_words_that_no_reference_has(lessons: Lessons) -> None:
    tokenizer, told = lessons.tokenizer, objective(lessons)
    whole = tokenizer.encode([lessons.references[0][0]]).tokens[0, 1:].tolist()
    for special in (tokenizer.unk, tokenizer.pad, tokenizer.bos):
        assert reward_of(told, 0, [special, *whole]) < reward_of(told, 0, whole)
    assert reward_of(told, 0, [tokenizer.eos]) == pytest.approx(coco_rewards(lessons, [0], ["<end>"])[0], abs=1e-6)


def test_rewards_read_captions_as_the_tokenizer_normalises_them(lessons: Lessons) -> None:
    shouting = replace(lessons, references=tuple(tuple(f"{c.upper()} !" for c in own) for own in lessons.references))
    ids = lessons.tokenizer.encode([lessons.references[0][0]]).tokens[0, 1:].tolist()
    assert reward_of(objective(shouting), 0, ids) == reward_of(objective(lessons), 0, ids) > 1


def test_cross_entropy_is_a_term_where_it_has_a_weight(
    captioner: Captioner, prepared: Prepared, lessons: Lessons
) -> None:
    told = objective(lessons, generation_weight=0.3)
    given = targets(told)
    captioner.eval()
    condition = seen(captioner, prepared)
    found = told(captioner, condition, given)
    assert dict(told.weights) == {"policy": 1.0, "generation": 0.3}
    torch.testing.assert_close(found.terms["generation"], captioner.generation_loss(condition.prefix, *given[2:]))
    assert set(objective(lessons).weights) == {"policy"}


def test_training_raises_the_reward(captioner: Captioner, prepared: Prepared, lessons: Lessons) -> None:
    told = objective(lessons, samples=8)
    rows, chance = torch.arange(4), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(captioner.parameters(), lr=3e-3)
    rewards = []
    for _ in range(60):
        losses = told(captioner, seen(captioner, prepared, rows), told.targets(rows, 1, chance))
        optimizer.zero_grad()
        losses.terms["policy"].backward()
        optimizer.step()
        rewards.append(losses.observed["reward.mean"])
    assert sum(rewards[-10:]) > 2 * sum(rewards[:10])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samples": 1}, r"objective\.samples must be at least 2 where objective\.baseline is others, got 1"),
        ({"samples": 0, "baseline": "greedy"}, r"at least 1 where objective\.baseline is greedy, got 0"),
        ({"temperature": 0.0}, r"objective\.temperature must be positive, got 0"),
        ({"max_new_tokens": 0}, r"objective\.max_new_tokens must be at least 1, got 0"),
        ({"generation_weight": -1.0}, r"objective\.generation_weight must not be negative, got -1"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfCriticalConfig(**fields)
    assert SelfCriticalConfig(samples=1, baseline="greedy").samples == 1
