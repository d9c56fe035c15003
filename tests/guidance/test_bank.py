import pytest
import torch
from safetensors.torch import save_file

from regioncap.guidance import BankError, KeywordBank


def test_a_saved_bank_comes_back_whole(tmp_path, make_bank):
    bank = make_bank(7, 5)
    bank.save(tmp_path / "new" / "scene")
    again = KeywordBank.load(tmp_path / "new" / "scene")
    assert (again.words, again.counts) == (bank.words, bank.counts)
    assert torch.equal(again.embeddings, bank.embeddings)
    assert (len(again), again.width) == (7, 5)


def test_the_words_file_can_be_read_by_people_and_holds_any_script(tmp_path):
    bank = KeywordBank(words=("ice cream", "café"), counts=(12, 3), embeddings=torch.ones(2, 1))
    bank.save(tmp_path)
    assert (tmp_path / "words.tsv").read_text(encoding="utf-8") == "word\tcount\nice cream\t12\ncafé\t3\n"
    assert KeywordBank.load(tmp_path).words == bank.words


def test_embed_keeps_the_order_of_the_counts_and_cuts_the_graph():
    weight = torch.ones(1, requires_grad=True)
    bank = KeywordBank.embed(
        {"dog": 9, "elephant": 2}, lambda words: weight * torch.tensor([[float(len(word))] for word in words])
    )
    assert (bank.words, bank.counts) == (("dog", "elephant"), (9, 2))
    assert bank.embeddings.tolist() == [[3.0], [8.0]]
    assert not bank.embeddings.requires_grad


@pytest.mark.parametrize(
    ("words", "counts", "embeddings", "message"),
    [
        ((), (), torch.ones(0, 3), "at least one word"),
        (("dog", "cat", "dog"), (1, 1, 1), torch.ones(3, 2), "'dog' more than once"),
        (("dog", "a\tb"), (1, 1), torch.ones(2, 2), "tab"),
        (("dog", "a\nb"), (1, 1), torch.ones(2, 2), "line break"),
        (("dog", " "), (1, 1), torch.ones(2, 2), "blank"),
        (("dog", "cat"), (1,), torch.ones(2, 2), "1 counts for 2 words"),
        (("dog", "cat"), (1, -1), torch.ones(2, 2), "'cat' -1 times"),
        (("dog", "cat"), (0, 0), torch.ones(2, 2), "added words alone"),
        (("dog", "cat"), (1, 1), torch.ones(3, 2), r"2 \(words\) x width, got \(3, 2\)"),
        (("dog", "cat"), (1, 1), torch.ones(2, 0), r"got \(2, 0\)"),
        (("dog",), (1,), torch.tensor([[float("nan")]]), "nan"),
    ],
)
def test_a_bank_that_does_not_fit_together_is_refused(words, counts, embeddings, message):
    with pytest.raises(BankError, match=message):
        KeywordBank(words=words, counts=counts, embeddings=embeddings)


def test_no_words_to_embed_is_said_before_the_encoder_is_asked():
    with pytest.raises(BankError, match="min_count"):
        KeywordBank.embed({}, lambda words: pytest.fail("asked"))


@pytest.mark.parametrize("name", ["words.tsv", "embeddings.safetensors"])
def test_a_missing_file_is_named(tmp_path, make_bank, name):
    make_bank(3, 2).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BankError, match=f"{tmp_path} has no {name}"):
        KeywordBank.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("dog\t3\n", "must begin with the line"),
        ("word\tcount\ndog 3\n", "line 2: wanted a word, a tab and a count, got 'dog 3'"),
        ("word\tcount\ndog\t3\ncat\tmany\n", "line 3"),
        ("word\tcount\ndog\t-3\n", "line 2"),
        ("word\tcount\n", "at least one word"),
        ("word\tcount\ndog\t3\ndog\t2\n", "more than once"),
        ("word\tcount\ndog\t3\n", r"1 \(words\) x width, got \(2, 2\)"),
    ],
)
def test_a_broken_words_file_is_named_with_the_line(tmp_path, make_bank, text, message):
    make_bank(2, 2).save(tmp_path)
    (tmp_path / "words.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(BankError, match=message) as caught:
        KeywordBank.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_words_that_are_no_text_are_refused(tmp_path, make_bank):
    make_bank(2, 2).save(tmp_path)
    (tmp_path / "words.tsv").write_bytes(b"word\tcount\n\xff\xfe\t3\n")
    with pytest.raises(BankError, match=r"words\.tsv is not UTF-8"):
        KeywordBank.load(tmp_path)


def test_embeddings_of_another_format_or_name_are_refused(tmp_path, make_bank):
    make_bank(2, 2).save(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(BankError, match="is not a safetensors file"):
        KeywordBank.load(tmp_path)
    save_file({"vectors": torch.ones(2, 2)}, tmp_path / "embeddings.safetensors")
    with pytest.raises(BankError, match=r"one tensor 'embeddings', got .*vectors"):
        KeywordBank.load(tmp_path)


def named(*words: str) -> KeywordBank:
    """A bank of these words, as far apart as can be."""
    return KeywordBank(words=words, counts=(3,) * len(words), embeddings=torch.eye(len(words), 6))


def spelt(words):
    """Embed a text by the letters that it begins with, and fail on what was never asked for."""
    return torch.tensor([[float(ord(word[place % len(word)])) for place in range(6)] for word in words])


def test_a_word_is_found_whatever_its_case_and_spaces():
    bank = named("dog", "Living room", "hot dog")
    assert [bank.find(text) for text in ("dog", "DOG ", "hot  Dog", "living ROOM")] == [0, 0, 2, 1]
    assert bank.find("hotdog") is None
    assert bank.find("") is None


def test_of_words_that_differ_in_case_alone_the_very_one_is_found():
    bank = named("turkey", "Turkey")
    assert (bank.find("turkey"), bank.find("Turkey")) == (0, 1)
    assert bank.nearest_words("turky") == ("turkey",)


def test_misspelt_words_have_the_likest_spelt_beside_them():
    bank = named("surfer", "surfboard", "skateboard", "dog", "Labrador")
    assert bank.nearest_words("surfbord", 2) == ("surfboard", "surfer")
    assert bank.nearest_words("LABRADO") == ("Labrador",)
    assert bank.nearest_words("xylophone") == ()


def test_words_near_in_meaning_are_those_that_point_the_same_way_from_the_mean():
    shared = 50 * torch.ones(3)
    embeddings = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.9, 0.3]]) + shared
    bank = KeywordBank(words=("dog", "couch", "bench"), counts=(1, 1, 1), embeddings=embeddings)
    assert bank.nearest_in_meaning(torch.tensor([0.0, 2.0, 0.2]) + shared, 2) == ("couch", "bench")
    assert len(bank.nearest_in_meaning(shared)) == 3


def test_an_unknown_word_is_named_with_its_bank_and_the_nearest_words():
    bank = named("surfboard", "surfer", "dog")
    message = str(bank.unknown("surfbord", "detail"))
    assert message == (
        "no word 'surfbord' in the detail bank; nearest: surfboard, surfer; the bank's words.tsv lists all"
    )
    assert "in the scene bank; none is spelt like it;" in str(bank.unknown("xylophone", "scene"))
    assert isinstance(bank.unknown("xylophone", "scene"), BankError)


def test_words_are_added_behind_the_others_and_only_once(tmp_path):
    bank = named("dog", "hot dog")
    asked = []

    def encode(words):
        asked.extend(words)
        return spelt(words)

    more = bank.with_words(["Dog", "red  kite", "red kite", "sofa"], encode)
    assert more.words == ("dog", "hot dog", "red kite", "sofa")
    assert more.counts == (3, 3, 0, 0)
    assert asked == ["red kite", "sofa"]
    assert torch.equal(more.embeddings, torch.cat([bank.embeddings, spelt(["red kite", "sofa"])]))
    more.save(tmp_path)
    assert KeywordBank.load(tmp_path).counts == more.counts


def test_a_bank_that_has_all_the_words_stays_itself():
    bank = named("dog", "hot dog")
    assert bank.with_words(["HOT DOG"], lambda words: pytest.fail("asked")) is bank
    assert bank.with_words([], lambda words: pytest.fail("asked")) is bank


def test_words_of_another_width_or_of_no_letters_cannot_join():
    with pytest.raises(BankError, match="width 2 cannot join a bank of width 6"):
        named("dog").with_words(["sofa"], lambda words: torch.ones(1, 2))
    with pytest.raises(BankError, match="blank"):
        named("dog").with_words([" "], lambda words: torch.ones(1, 6))
