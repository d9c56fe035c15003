import pytest

from regioncap.experiments.steering.options import SteeringOptions


def test_words_come_one_by_one_with_commas_and_as_people_type_them() -> None:
    options = SteeringOptions(add=("red, Hot  Dog", "red"), drop=("wooden",), scene=("beach",))
    assert options.added == ("red", "hot dog")
    assert options.dropped == ("wooden",)
    assert options.scenes == ("beach",)
    assert options.any


def test_regions_have_numbers_and_may_be_named_twice() -> None:
    options = SteeringOptions(region=("3=red,surfboard", "12=dog", " 3 = wet,red"))
    assert options.regions == {3: ("red", "surfboard", "wet"), 12: ("dog",)}
    assert options.any


def test_nothing_is_no_edit() -> None:
    assert not SteeringOptions(strength=2.0).any


@pytest.mark.parametrize("region", ["surfboard", "=surfboard", "x=surfboard", "3=", "-1=dog", "1.5=dog"])
def test_a_region_without_number_or_words_is_refused(region: str) -> None:
    with pytest.raises(ValueError, match=r"--region wants NUMBER=WORDS, such as 3=surfboard, got"):
        SteeringOptions(region=(region,))


@pytest.mark.parametrize("flag", ["add", "drop", "scene"])
def test_an_empty_word_is_refused(flag: str) -> None:
    with pytest.raises(ValueError, match=rf"--{flag} wants words"):
        SteeringOptions(**{flag: ("red,,blue",)})


@pytest.mark.parametrize("field", [{"add": ("a,red",)}, {"scene": ("red",)}, {"region": ("2=red",)}])
def test_a_word_is_not_dropped_and_said_at_once(field: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="'red' is to be dropped and to be said"):
        SteeringOptions(drop=("Red",), **field)


@pytest.mark.parametrize("strength", [0.0, -2.0, float("nan"), float("inf")])
def test_strength_must_be_positive_and_finite(strength: float) -> None:
    with pytest.raises(ValueError, match="--strength must be positive and finite"):
        SteeringOptions(add=("red",), strength=strength)
