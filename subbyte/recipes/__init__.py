"""Recipes: how to compress a network, as plain data. Names like w4a8 are files beside this one."""

from subbyte.recipes.load import list_recipes, load_recipe
from subbyte.recipes.recipe import (
    ActivationRange,
    Layers,
    Override,
    Recipe,
    Training,
    WeightRange,
)

__all__ = [
    "ActivationRange",
    "Layers",
    "Override",
    "Recipe",
    "Training",
    "WeightRange",
    "list_recipes",
    "load_recipe",
]
