"""An error keeps its kind and its two parts, whatever process it comes out of."""

from __future__ import annotations

import pickle

import pytest

from fiducial import errors
from fiducial.errors import Failure, UserError


@pytest.mark.parametrize("error", [UserError("/a/b.png", "damaged"), UserError("x: y"), Failure("the run diverged")])
def test_an_error_comes_back_as_it_was(error: Failure) -> None:
    for again in (pickle.loads(pickle.dumps(error)), errors.of_json(errors.to_json(error))):
        assert type(again) is type(error)
        assert (str(again), again.where, again.what) == (str(error), error.where, error.what)


def test_the_place_is_left_out_where_a_list_names_it() -> None:
    error = UserError("/a/b.png", "damaged")
    assert str(error) == "/a/b.png: damaged"
    assert (error.about("/a/b.png"), error.about("/a")) == ("damaged", "/a/b.png: damaged")
    assert UserError("/a/b.png: damaged").about("/a/b.png") == "/a/b.png: damaged"


def test_bugs_and_missing_packages_stay_what_they_are() -> None:
    bug = errors.of_json(errors.to_json(MemoryError("no room\nfor 7 bytes")))
    assert (type(bug), str(bug)) == (Failure, "MemoryError: no room")
    missing = errors.of_json(errors.to_json(ModuleNotFoundError("No module named 'av'", name="av")))
    assert isinstance(missing, ModuleNotFoundError)
    assert (missing.name, str(missing)) == ("av", "No module named 'av'")


def test_exit_codes() -> None:
    assert (UserError("x").exit_code, Failure("x").exit_code) == (2, 1)
    assert isinstance(UserError("x"), ValueError)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("rotation", "rotation_degrees"),
        ("saturatoin", "saturation"),
        ("rot", "rotation_degrees"),
        ("degres", "rotation_degrees"),
        ("Noise-Sigma", "noise_sigma"),
        ("flp", "flip"),
    ],
)
def test_the_nearest_name_is_one_with_that_word_in_it(word: str, meant: str) -> None:
    known = ["saturation", "rotation_probability", "rotation_degrees", "noise", "noise_sigma", "flip"]
    assert errors.did_you_mean(word, known).startswith(f" Did you mean {meant!r}? Known: flip, ")


def test_nothing_is_guessed_where_nothing_is_near() -> None:
    assert errors.did_you_mean("xyz", ["flip", "scale"]) == " Known: flip, scale."
    assert errors.did_you_mean("", ["flip"]) == " Known: flip."
