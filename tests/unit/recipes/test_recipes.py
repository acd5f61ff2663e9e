"""Recipes load, and what is wrong with one is said in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from subbyte.errors import RecipeError
from subbyte.quant import activation_format, weight_format
from subbyte.quant.format import INT8, UINT8
from subbyte.recipes import Recipe, list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_loads_and_is_called_like_its_file(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_the_shipped_names() -> None:
    assert {"fp32", "w2a8", "w4a8", "w8a8"} <= set(list_recipes())


@pytest.mark.parametrize("name", [n for n in list_recipes() if n.startswith("w")])
def test_widths_follow_the_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.weights.bits == weight_format(int(name[1]))
    assert recipe.activations.bits == activation_format(int(name[3]))
    assert (recipe.first.weights, recipe.first.activations) == (INT8, UINT8)


def test_the_ending_of_a_name_sets_the_steps() -> None:
    plain, trained = load_recipe("w4a8"), load_recipe("w4a8-distill")
    assert trained.steps == ("bias_correction", "reconstruct", "distill")
    assert load_recipe("w2a8-reconstruct").steps == ("gptq", "reconstruct")
    assert trained == plain.model_copy(
        update={"name": trained.name, "description": trained.description, "steps": trained.steps}
    )


@pytest.mark.parametrize("name", list_recipes())
def test_files_hold_the_same_tables_whatever_the_steps_are(name: str) -> None:
    recipe = load_recipe(name)
    stored = recipe.model_dump(mode="json")
    assert {"reconstruct", "distill"} <= set(stored)
    assert stored["distill"] == recipe.configuration("distill").model_dump()
    assert recipe.configuration("bias_correction") is None


def test_a_recipe_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nseed = 3\n[[override]]\nmatch = "blocks.*"\nweights = 4\n')
    for argument in (path, str(path)):
        recipe = load_recipe(argument)
        assert (recipe.name, recipe.seed, recipe.override[0].weights) == ("mine", 3, weight_format(4))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'w3a9'; known: compact, .*w8a8"):
        load_recipe("w3a9")


BAD = {
    "not TOML": ("name = ", "not valid TOML"),
    "no name": ("seed = 1", "name: Field required"),
    "unknown option": ('name = "x"\nweigths = 4', "weigths: there is no such option"),
    "unknown nested option": ('name = "x"\n[weights]\nbit = 4', "weights.bit: there is no such option"),
    "bits": ('name = "x"\n[weights]\nbits = 5', "weights.bits: weights can have 8, 4, 3, 2 bits, not 5"),
    "range": ('name = "x"\n[activations]\nrange = "max"', "activations.range: Input should be"),
    "percentile": (
        'name = "x"\n[activations]\npercentile = 101',
        "activations.percentile: Input should be less",
    ),
    "seed": ('name = "x"\nseed = -1', "seed: Input should be greater"),
    "unknown step": ('name = "x"\nsteps = ["magic"]', "steps.0: Input should be"),
    "steps that are no list": ('name = "x"\nsteps = 3', "steps: Input should be a valid tuple"),
    "step that is no name": ('name = "x"\nsteps = [["distill"]]', "steps.0: Input should be a valid string"),
    "unknown table": (
        'name = "x"\n[bias_correction]\nepochs = 4',
        "bias_correction: there is no such option",
    ),
    "setting of a step": ('name = "x"\n[distill]\nepochs = 0', "distill.epochs: Input should be greater"),
    "rounding": (
        'name = "x"\n[reconstruct]\nrounding = "up"',
        "reconstruct.rounding: Input should be 'latent'",
    ),
    "option of another step": (
        'name = "x"\n[distill]\nepochs = 1\ndrop = 0.5',
        "distill.drop: there is no such option",
    ),
    "pull of AdaRound": (
        'name = "x"\n[reconstruct]\nrounding = "adaround"\npull = 1',
        'reconstruct: pull and patience are for rounding = "latent"; leave them out',
    ),
    "patience without images": (
        'name = "x"\n[reconstruct]\npatience = 2',
        "reconstruct: check and patience need held_back, a share of images",
    ),
    "rising exponent": (
        'name = "x"\n[reconstruct]\nbeta = [2, 20]',
        "reconstruct: beta must fall, between 64 and 1",
    ),
    "step twice": ('name = "x"\nsteps = ["bias_correction", "bias_correction"]', "a step is listed twice"),
    "empty override": ('name = "x"\n[[override]]\nweights = 4', "an override needs match or role"),
    "aimless override": (
        'name = "x"\n[[override]]\nmatch = "a"',
        "an override needs weights, pattern, activ",
    ),
    "float bits": (
        'name = "x"\n[[override]]\nmatch = "a"\nprecision = "fp16"\nweights = 4',
        "a layer in fp16 has no bits",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_recipe_is_one_clear_error(case: str, tmp_path: Path) -> None:
    text, message = BAD[case]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unreadable_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*missing"):
        load_recipe(tmp_path / "missing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(tmp_path / "binary.toml")
    with pytest.raises(RecipeError, match="cannot read"):
        load_recipe(tmp_path)


HOSTILE = {
    "dotted key": "a." * 100_000 + "a = 1",
    "spaced dotted key": "a . " * 50_000 + "a = 1",
    "dotted table": "[" + "a." * 100_000 + "a]",
    "arrays": "a = " + "[" * 100_000,
    "arrays in lines": "a = [\n" * 40_000,
    "inline tables": "a = " + "{a=" * 60_000,
    "behind a string of lines": 'a = ["""x"""", ' + "[" * 100_000,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_deep_recipe_is_refused_before_it_is_parsed(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(text: str) -> None:
        pytest.fail("it was parsed")

    monkeypatch.setattr("subbyte.recipes.load.parse_toml", parse)
    path = tmp_path / "deep.toml"
    path.write_text(HOSTILE[case])
    with pytest.raises(RecipeError, match="nested too deeply in line"):
        load_recipe(path)


def test_what_is_in_strings_and_comments_is_not_deep(tmp_path: Path) -> None:
    path = tmp_path / "flat.toml"
    deep = "[" * 100 + "." * 100
    text = f'name = "{deep}\\""\ndescription = """\n{deep}"""\n# {deep}\n[[override]]\nweights = 4\n'
    path.write_text(text + f"match = '{deep}'\n")
    assert load_recipe(path).override[0].match == deep


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    def refused(message: str, path: Path) -> None:
        with pytest.raises(RecipeError, match=message):
            load_recipe(path)

    path = tmp_path / "a.toml"
    for content, message in (
        (b"#" * 300_000, "has more than 262144 bytes"),
        (b"name = '\xff'", "is not UTF-8 text"),
        (b"name = '\0'", "is not valid TOML"),
        (b"seed = " + b"1" * 5000, "is not valid TOML"),
    ):
        path.write_bytes(content)
        refused(message, path)
    os.mkfifo(tmp_path / "pipe.toml")
    refused("is not a regular file", tmp_path / "pipe.toml")
    refused("is not a regular file", tmp_path)


def test_a_format_is_written_as_bits_or_text() -> None:
    said = {"name": "x", "weights": {"bits": "int4"}, "override": [{"match": "a", "activations": "uint3"}]}
    recipe = Recipe.model_validate(said)
    assert recipe.weights.bits == weight_format(4)
    assert recipe.override[0].activations == activation_format(3)
    # what is stored are bits, which earlier versions read
    plain = recipe.model_dump(mode="json")
    assert (plain["weights"]["bits"], plain["first"]["weights"]) == (4, 8)
    assert plain["override"][0]["activations"] == 3
    assert Recipe.model_validate(plain) == recipe


def test_options_of_reconstruction_stand_in_a_file_only_where_they_are_used() -> None:
    plain = Recipe.model_validate({"name": "x"}).model_dump(mode="json")
    rates = {"weight": 0.01, "scale": 0.002, "bias": 0.002, "grid": 0.002}
    first = {"epochs": 4.0, "batch": 32, **rates, "pull": 0.0, "mirror": False}
    assert plain["reconstruct"] == first  # as the first version wrote it
    used = {"rounding": "adaround", "steps": 2000, "drop": 0.5, "held_back": 0.1, "beta": [10.0, 2.0]}
    recipe = Recipe.model_validate({"name": "x", "reconstruct": {"rounding": "adaround", **used}})
    assert recipe.model_dump(mode="json")["reconstruct"] == {**first, **used}
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
