import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from regioncap.decoder import CaptionTokenizer, Gpt2Decoder, Gpt2DecoderConfig, train_bpe, train_words
from regioncap.experiments.language_training import LanguageResult, LanguageTrainingConfig, train_language

SHAPE = Gpt2DecoderConfig(layers=1, heads=2, width=16, positions=40, dropout=0.1)


def sentences(count: int, seed: int) -> list[str]:
    """A small language: who does what where, each followed by what it allows."""
    draw = random.Random(seed)
    who = {"dog": ("runs", "barks"), "cat": ("sleeps", "runs"), "man": ("reads", "sleeps")}
    lines = []
    for _ in range(count):
        name = draw.choice(list(who))
        lines.append(f"a {draw.choice(['big', 'small'])} {name} {draw.choice(who[name])} in the {draw.choice('ab')}")
    return lines


TRAIN, HELD_OUT = sentences(60, 1), sentences(12, 2)


@pytest.fixture
def learn(tmp_path: Path) -> Callable[..., LanguageResult]:
    def run(
        tokenizer: CaptionTokenizer | None = None,
        decoder: Gpt2DecoderConfig = SHAPE,
        held_out: Sequence[str] = HELD_OUT,
        state: str = "state.pt",
        report: Callable[[int, Mapping[str, float]], None] = lambda step, values: None,
        **settings: float,
    ) -> LanguageResult:
        config = LanguageTrainingConfig(**{"steps": 30, "batch": 12, "lr": 1e-2, "evaluations": 3} | settings)
        tokenizer = tokenizer or train_words(TRAIN, min_count=1)
        return train_language(config, decoder, tokenizer, 16, TRAIN, held_out, tmp_path / state, report)

    return run


def slow_loss(decoder: Gpt2Decoder, tokenizer: CaptionTokenizer, captions: Sequence[str]) -> tuple[float, int]:
    """Sum of -log p by transformers' own forward pass, caption by caption, and how many tokens that is."""
    total, count = 0.0, 0
    for caption in captions:
        (row,) = tokenizer.encode([caption]).tokens
        with torch.no_grad():
            logits = decoder.model(input_ids=row[None, :-1]).logits[0]
        total += F.cross_entropy(logits, row[1:], reduction="sum").item()
        count += len(row) - 1
    return total, count


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_perplexity_is_that_of_a_slow_loop(learn: Callable[..., LanguageResult], kind: str) -> None:
    tokenizer = train_words(TRAIN, min_count=1) if kind == "words" else train_bpe(TRAIN, size=40)
    result = learn(tokenizer)
    total, count = slow_loss(result.decoder, tokenizer, HELD_OUT)
    words = sum(len(caption.split()) + 1 for caption in HELD_OUT)
    assert result.after.token == pytest.approx(math.exp(total / count), rel=1e-4)
    assert result.after.word == pytest.approx(math.exp(total / words), rel=1e-4)
    assert (words == count) == (kind == "words")


def test_it_learns_and_says_how_far_it_came(learn: Callable[..., LanguageResult]) -> None:
    reports: list[tuple[int, Mapping[str, float]]] = []
    result = learn(steps=60, report=lambda step, values: reports.append((step, dict(values))))
    vocabulary = len(train_words(TRAIN, min_count=1))
    assert result.before.word == pytest.approx(vocabulary, rel=0.1)  # it knows nothing
    assert result.after.word < 3  # the language leaves 1.9
    assert [entry["step"] for entry in result.history] == [0, 20, 40, 60]
    assert [step for step, values in reports if "perplexity.word" in values] == [0, 20, 40, 60]
    assert {step for step, values in reports if "lr" in values} == {20, 40, 60}
    assert result.cpu_s > 0
    assert not result.decoder.training


def test_every_parameter_and_every_position_learns(learn: Callable[..., LanguageResult]) -> None:
    """Behind a prefix captions stand at positions that text alone would never reach."""
    torch.manual_seed(0)
    fresh = SHAPE.build(len(train_words(TRAIN, min_count=1)), bos=1, eos=2, pad=0)
    learned = learn(steps=60).decoder.state_dict()
    for name, before in fresh.state_dict().items():
        assert not torch.equal(learned[name], before), name
    rows = fresh.model.transformer.wpe.weight - learned["model.transformer.wpe.weight"]
    *moved, _, never_fed = rows.norm(dim=1).tolist()  # the last could only hold an eos; the one before needs luck
    assert min(moved) > 10 * never_fed


class Stopped(Exception):
    pass


def stop_at(step: int) -> Callable[[int, Mapping[str, float]], None]:
    def report(now: int, values: Mapping[str, float]) -> None:
        if now == step:
            raise Stopped

    return report


@pytest.mark.parametrize("step", [0, 20, 40, 60])
def test_stopped_training_ends_as_if_it_had_not_stopped(learn: Callable[..., LanguageResult], step: int) -> None:
    whole = learn(steps=60, state="whole.pt")
    with pytest.raises(Stopped):
        learn(steps=60, report=stop_at(step))
    again = learn(steps=60)
    assert again.history == whole.history
    state = whole.decoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.decoder.state_dict().items())


def test_training_that_was_complete_is_not_made_again(learn: Callable[..., LanguageResult]) -> None:
    first = learn()
    steps: list[int] = []
    again = learn(report=lambda step, values: steps.append(step))
    assert steps == []
    assert again.history == first.history
    assert again.cpu_s == first.cpu_s


def test_it_stops_when_held_out_text_gets_worse_and_keeps_the_best(learn: Callable[..., LanguageResult]) -> None:
    """Held-out captions say what the text never says: the more it learns, the less it expects them."""
    tokenizer = train_words(TRAIN, min_count=1)
    odd = ["b the in reads man", "the the a a dog big big"]
    result = learn(tokenizer, held_out=odd, steps=200, evaluations=40, patience=2)
    assert result.steps < 200
    measured = [entry["perplexity.token"] for entry in result.history]
    assert result.after.token == min(measured)
    assert len(measured) - 1 - measured.index(min(measured)) == 2
    assert result.best_step == result.history[measured.index(min(measured))]["step"]
    total, count = slow_loss(result.decoder, tokenizer, odd)
    assert result.after.token == pytest.approx(math.exp(total / count), rel=1e-4)


def test_held_out_captions_beyond_the_positions_are_left_out(learn: Callable[..., LanguageResult]) -> None:
    long = " ".join(["dog"] * 60)
    assert learn(held_out=[*HELD_OUT, long]).after == learn(state="other.pt").after
    with pytest.raises(ValueError, match=r"every held-out caption is longer than 40 tokens: raise decoder\.positions"):
        learn(held_out=[long], state="none.pt")


def test_settings_decide(learn: Callable[..., LanguageResult]) -> None:
    base = learn(steps=6, evaluations=1, state="base.pt").after
    assert learn(steps=6, evaluations=1, state="same.pt").after == base
    for field, value in {"seed": 1, "lr": 2e-2, "batch": 11, "steps": 7}.items():
        assert learn(**{"steps": 6, "evaluations": 1, field: value}, state=f"{field}.pt").after != base, field


def test_loss_that_is_not_finite_is_an_error(learn: Callable[..., LanguageResult]) -> None:
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d+; lower language\.lr \(now 1e\+30\)"):
        learn(lr=1e30)


def test_broken_checkpoint_is_named(learn: Callable[..., LanguageResult], tmp_path: Path) -> None:
    learn()
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"state\.pt cannot be read .*: remove it to begin anew"):
        learn()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 0}, r"language\.steps must be at least 1, got 0"),
        ({"batch": 0}, r"language\.batch must be at least 1, got 0"),
        ({"evaluations": 0}, r"language\.evaluations must be at least 1, got 0"),
        ({"patience": 0}, r"language\.patience must be at least 1, got 0"),
        ({"lr": 0.0}, r"language\.lr must be positive, got 0\.0"),
        ({"held_out": 1.0}, r"language\.held_out must be a share between 0 and 1, got 1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LanguageTrainingConfig(**fields)
