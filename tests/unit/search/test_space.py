"""Spaces: what is read, what is refused and how, and the networks that choices make."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from subbyte.errors import InputError
from subbyte.search import Space, list_spaces, load_space
from tests.unit.search.conftest import TINY


def refused(tmp_path: Path, old: str, new: str) -> str:
    assert old in TINY
    path = tmp_path / "space.toml"
    path.write_text(TINY.replace(old, new))
    with pytest.raises(InputError) as found:
        load_space(path)
    assert "\n" not in str(found.value)
    return str(found.value).removeprefix(f"the space {path} is ")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "tiny"', "name = ", "not valid TOML: "),
        ('name = "tiny"', "", "invalid: name: Field required"),
        ("[16, 24]\nstem", "[4]\nstem", "invalid: resolution.0: "),
        ("[16, 24]\nstem", "[]\nstem", "invalid: resolution: give one value or several different ones"),
        ("[16, 24]\nstem", "[16, 16]\nstem", "invalid: resolution: give one value or several different ones"),
        ("[16, 24]\nstem", "[inf]\nstem", "invalid: resolution.0: "),
        ("stem = [8, 16]", "stem = [10]", "invalid: stem: numbers of channels are multiples of 4"),
        ("kernel = [3, 5]", "kernel = [4]", "invalid: stage.1.kernel: kernels have odd sides"),
        ("kernel = [3, 5]", "kernels = [3]", "invalid: stage.1.kernels: there is no such option"),
        ('["ir", "er"]', '["attention"]', "invalid: stage.1.kind.0: "),
        ("depth = [1, 2]\nkernel", "depth = [0]\nkernel", "invalid: stage.1.depth.0: "),
        ("se = [0.0, 0.25]\nskip", "se = [0.01]\nskip", "invalid: stage.0.se: squeeze-and-excitation is 0"),
        ("se = [0.0, 0.25]\nskip", "se = [nan]\nskip", "invalid: stage.0.se: squeeze-and-excitation is 0"),
        ('"int4"', '"int5"', "invalid: stage.1.weights: "),
        ("stride = 2", "stride = 3", "invalid: stage.1.stride: "),
    ],
)
def test_what_is_wrong_with_a_space_is_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert refused(tmp_path, old, new).startswith(said)


def test_no_such_space(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no space 'nothing'; known: efficientnetv2-xs, hands"):
        load_space("nothing")
    with pytest.raises(InputError, match="the space"):
        load_space(tmp_path / "none.toml")


@pytest.mark.parametrize("name", list_spaces())
def test_spaces_of_the_package(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    assert space.size() > 1e5
    assert space.largest != space.smallest


def test_a_candidate_is_what_was_chosen(space: Space) -> None:
    chosen = {name: values[-1] for name, values in space.lists().items()}
    candidate = space.candidate(chosen)
    assert (candidate.resolution, candidate.stem, candidate.head) == (24, 16, 32)
    first, second = candidate.stages
    assert (first.kind, first.depth, first.channels, first.se, first.skip) == ("ds", 2, 16, 0.25, False)
    assert (second.kind, second.kernel, second.expand, second.weights) == ("er", 5, 4, "int8+2:4")
    assert hash(candidate) == hash(space.candidate(dict(reversed(chosen.items()))))


def test_choices_that_do_not_count_make_no_other_candidate(space: Space) -> None:
    """Squeeze-and-excitation of a block that has none."""
    chosen = {name: values[0] for name, values in space.lists().items()}
    assert space.candidate({**chosen, "stage0.se": 0.25}) == space.candidate(chosen)


def test_wrong_choices(space: Space) -> None:
    chosen = {name: values[0] for name, values in space.lists().items()}
    with pytest.raises(InputError, match="has no choice 'depth'"):
        space.candidate({**chosen, "depth": 1})
    with pytest.raises(InputError, match="stem of the space tiny is one of 8, 16, not 9"):
        space.candidate({**chosen, "stem": 9})
    with pytest.raises(InputError, match="not None"):
        space.candidate({})


def test_ends_and_random_candidates(space: Space) -> None:
    most, least = space.largest, space.smallest
    assert [s.kind for s in most.stages] == ["cn", "er"]
    assert [s.kind for s in least.stages] == ["ds", "ir"]
    assert (most.stages[1].weights, least.stages[1].weights) == ("int8", "int4")
    drawn = [space.random(random.Random(seed)) for seed in range(20)]
    assert drawn == [space.random(random.Random(seed)) for seed in range(20)]
    assert len(set(drawn)) > 15
    for candidate in drawn:
        assert least.resolution <= candidate.resolution <= most.resolution
        assert candidate.stages[1].channels in (16, 24)
