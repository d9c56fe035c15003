import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.guidance import MarkedCaption, detail_words, phrase_words, scene_words


def marked(text: str, *, scene: tuple[str, ...] = (), detail: tuple[str, ...] = ()) -> MarkedCaption:
    return MarkedCaption(text=text, scene=scene, detail=detail)


MARKED = [
    marked("a brown dog runs over the wooden deck", detail=("a brown dog",), scene=("the wooden deck",)),
    marked("two dogs play soccer on a busy quay", detail=("two dogs", "soccer"), scene=("a busy quay",)),
    marked("a girl in a quay hat jumps into the sand", detail=("a girl", "a quay hat", "the sand")),
    marked("the quay shines", scene=("the quay",)),
    marked("dogs at the quay", detail=("dogs",), scene=("the quay",)),
]
CAPTIONS = [caption.text for caption in MARKED]


def words(marks=MARKED, captions=CAPTIONS, **limits) -> tuple[dict[str, int], dict[str, int]]:
    return phrase_words(marks, captions, **({"min_count": 1} | limits))


def test_scene_phrases_make_the_scene_bank_and_all_others_the_detail_bank():
    scene, detail = words()
    assert scene == {"quay": 4, "busy": 1, "deck": 1, "sand": 1, "soccer": 1}
    assert detail == {
        "dogs": 2, "brown": 1, "dog": 1, "girl": 1, "hat": 1, "sand": 1, "two": 1, "wooden": 1
    }  # fmt: skip


def test_verbs_and_function_words_stay_out_though_a_phrase_may_hold_them():
    uses = [marked("men run", detail=("men run",)), *[marked(f"{who} run", detail=(who,)) for who in ("we", "boys")]]
    _, detail = words([*uses, *MARKED])
    assert not {"run", "runs", "a", "the", "in"} & detail.keys()


@pytest.mark.parametrize(("in_scene", "bank"), [(0.7, "detail"), (0.8, "scene")])
def test_a_word_is_a_scene_word_if_three_quarters_of_its_phrases_are_scenes(in_scene, bank):
    count = round(10 * in_scene)
    uses = [marked("the zork", scene=("the zork",))] * count + [marked("the zork", detail=("the zork",))] * (10 - count)
    scene, detail = words([*uses, *MARKED], [*[use.text for use in uses], *CAPTIONS])
    assert ("zork" in scene, "zork" in detail) == (bank == "scene", bank == "detail")
    assert (scene | detail)["zork"] == 10


def test_attributes_describe_things_and_activities_the_scene_whatever_their_phrases():
    scene, detail = words()
    assert "wooden" in detail
    assert "wooden" not in scene
    assert "soccer" in scene
    assert "soccer" not in detail


def test_a_place_that_phrases_use_as_a_thing_is_in_both():
    scene, detail = words()
    assert scene["sand"] == detail["sand"] == 1


def test_words_are_counted_in_the_captions_not_in_the_marked_ones():
    scene, detail = words(captions=[*CAPTIONS, "the quay with a dog", "the quay"])
    assert (scene["quay"], detail["dog"]) == (6, 2)
    assert "girl" not in words(captions=[text for text in CAPTIONS if "girl" not in text])[1]


def test_words_that_the_marked_captions_lack_go_by_part_of_speech():
    more = ["a grey horse on the beach"] * 3
    scene, detail = words(captions=[*CAPTIONS, *more])
    assert scene["beach"] == 3
    assert {"grey", "horse"} <= detail.keys()
    assert words([], more) == (scene_words(more, min_count=1), detail_words(more, min_count=1))


def test_limits_keep_the_most_frequent():
    assert words(min_count=2, max_scene=1)[0] == {"quay": 4}
    assert words(max_detail=2)[1] == {"dogs": 2, "brown": 1}


def test_captions_without_a_word_for_a_bank_are_an_error_naming_it():
    with pytest.raises(ValueError, match="no scene word stands 9 times"):
        words(min_count=9)
    with pytest.raises(ValueError, match=r"no scene word.*none was seen at all"):
        phrase_words([], [])


@given(st.permutations(MARKED))
def test_the_order_of_captions_does_not_matter(order):
    assert words(order, [caption.text for caption in order]) == words()
