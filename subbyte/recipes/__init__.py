"""Recipes: how to compress a network, as plain data. Names like w4a8 are files beside this one."""

from subbyte.recipes.load import list_recipes, load_recipe
from subbyte.recipes.recipe import (
    ActivationRange,
    Layers,
    Override,
    Recipe,
    WeightRange,
)
from subbyte.recipes.steps import (
    STEPS,
    BlockRemoval,
    ChannelPruning,
    Distillation,
    Gptq,
    Pruning,
    Reconstruction,
    Retraining,
    Step,
    Taught,
    Training,
)

__all__ = [
    "STEPS",
    "ActivationRange",
    "BlockRemoval",
    "ChannelPruning",
    "Distillation",
    "Gptq",
    "Layers",
    "Override",
    "Pruning",
    "Recipe",
    "Reconstruction",
    "Retraining",
    "Step",
    "Taught",
    "Training",
    "WeightRange",
    "list_recipes",
    "load_recipe",
]
