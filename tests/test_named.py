"""A name or a setting that does not exist is refused with what does, nearest first."""

import pytest

from sparsity import methods
from sparsity.named import call, choose, function_of, unknown

OPTIONS = {"linear": 1, "cubic": 2}


def refused(function, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_a_name_is_chosen_from_what_exists():
    assert choose("ramp", "cubic", OPTIONS) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cubik", "no ramp is called 'cubik'; did you mean 'cubic'? There are: linear, cubic"),
        ("xyz", "no ramp is called 'xyz'. There are: linear, cubic"),
        ("", "no ramp is called ''. There are"),
        (None, "no ramp is called None"),
        (3, "no ramp is called 3"),
        (["cubic"], "no ramp is called ['cubic']"),
        ("Cubic", "did you mean 'cubic'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, words):
    assert words in refused(choose, "ramp", name, OPTIONS)


def test_an_error_may_list_nothing():
    assert "no setting is called 'c'" in str(unknown("setting", "c", ()))


def test_a_methods_function_is_found_by_its_file():
    found = function_of("method", "magnitude", methods)
    assert found.__name__ == "magnitude"
    assert found.__module__ == "sparsity.methods.magnitude"


@pytest.mark.parametrize("name", ["magnitud", "__init__", "", None, 3, "os", "../magnitude"])
def test_a_method_without_a_file_is_refused_with_those_there_are(name):
    words = refused(function_of, "method", name, methods)
    assert repr(name) in words and "sequential_attention" in words
    assert ("did you mean 'magnitude'" in words) == ("magnitud" in str(name))


def keyword_only(partition, *, c: float = 4.0, floor: int = 1, kind: str = "a", on: bool = False):
    return partition, c, floor, kind, on


def plain(first: int, second: str = "b"):
    return first, second


def test_settings_are_passed_by_name():
    assert call("it", keyword_only, "p", settings={}) == ("p", 4.0, 1, "a", False)
    settings = {"c": 1, "floor": 2, "kind": "b", "on": True}
    assert call("it", keyword_only, "p", settings=settings) == ("p", 1, 2, "b", True)
    assert call("it", plain, settings={"first": 1}) == (1, "b")
    assert call("it", plain, 1, settings={"second": "c"}) == (1, "c")


def test_an_unknown_setting_is_refused_with_the_nearest():
    words = refused(call, "the method 'x'", keyword_only, "p", settings={"flor": 1})
    assert words.startswith("no setting of the method 'x' is called 'flor'; did you mean 'floor'?")
    assert "There are: c, floor, kind, on" in words


def test_what_is_given_by_position_is_no_setting():
    words = refused(call, "it", keyword_only, "p", settings={"partition": "q"})
    assert "no setting of it is called 'partition'" in words
    assert "'first'" in refused(call, "it", plain, 1, settings={"first": 2})


def test_a_missing_setting_is_named():
    assert (
        refused(call, "it", plain, settings={"second": "c"})
        == "it needs the setting 'first'; it takes first, second"
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("c", "4", "it: c is a float, not '4' (str)"),
        ("c", True, "it: c is a float, not True (bool)"),
        ("c", None, "it: c is a float, not None (NoneType)"),
        ("floor", 1.0, "it: floor is a int, not 1.0 (float)"),
        ("floor", False, "it: floor is a int, not False (bool)"),
        ("kind", 1, "it: kind is a str, not 1 (int)"),
        ("on", 1, "it: on is a bool, not 1 (int)"),
        ("on", "yes", "it: on is a bool, not 'yes' (str)"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused(name, value, words):
    assert refused(call, "it", keyword_only, "p", settings={name: value}) == words


def test_an_error_inside_the_function_is_its_own():
    def fails(c: float = 1.0):
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        call("it", fails, settings={"c": 2.0})
