"""Every model by name: its architecture, its input, where its weights are published."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from subbyte.errors import InputError
from subbyte.models import tables
from subbyte.models.tables import Architecture
from subbyte.preprocess import PerChannel, Preprocessing

IMAGENET_MEAN: PerChannel = (0.485, 0.456, 0.406)
IMAGENET_STD: PerChannel = (0.229, 0.224, 0.225)
HALF: PerChannel = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class CatalogEntry:
    """`preprocessing` is what the default checkpoint, in `hub_repo`, was tested with; without such a
    checkpoint ("") it is what `subbyte train` trains for unless it is told otherwise."""

    architecture: Architecture
    preprocessing: Preprocessing
    hub_repo: str


def entry(name: str) -> CatalogEntry:
    """The catalog's entry. Raises InputError for an unknown name, with the closest known ones."""
    try:
        return ENTRIES[name]
    except KeyError:
        near = difflib.get_close_matches(name, ENTRIES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(ENTRIES)}."
        raise InputError(f"No model is called {name!r}; {hint}") from None


def _imagenet(size: int, crop: float) -> Preprocessing:
    return Preprocessing(size, size, IMAGENET_MEAN, IMAGENET_STD, "bicubic", crop)


def _half(size: int, crop: float, interpolation: str = "bicubic", crop_mode: str = "center") -> Preprocessing:
    return Preprocessing(size, size, HALF, HALF, interpolation, crop, crop_mode)


_V2_B0 = tables.V2_BASE
_V2_B1 = tables.scale(tables.V2_BASE, 1.0, 1.1, shrink_limit=0)
_V2_B2 = tables.scale(tables.V2_BASE, 1.1, 1.2, shrink_limit=0)
_V2_B3 = tables.scale(tables.V2_BASE, 1.2, 1.4, shrink_limit=0)
_EDGE_S = tables.EDGETPU
_EDGE_M = tables.scale(tables.EDGETPU, 1.0, 1.1)
_EDGE_L = tables.scale(tables.EDGETPU, 1.2, 1.4)

# name, architecture, preprocessing, tag of the checkpoint in timm/<name>.<tag>
_PLAIN: tuple[tuple[str, Architecture, Preprocessing, str], ...] = (
    ("efficientnet_b0", tables.B0, _imagenet(224, 0.875), "ra_in1k"),
    ("efficientnet_es", _EDGE_S, _imagenet(224, 0.875), "ra_in1k"),
    ("efficientnet_em", _EDGE_M, _imagenet(240, 0.882), "ra2_in1k"),
    ("efficientnet_el", _EDGE_L, _imagenet(300, 0.904), "ra_in1k"),
)
_TENSORFLOW: tuple[tuple[str, Architecture, Preprocessing, str], ...] = (
    ("tf_efficientnet_b0", tables.B0, _imagenet(224, 0.875), "in1k"),
    ("tf_efficientnet_es", _EDGE_S, _half(224, 0.875), "in1k"),
    ("tf_efficientnet_em", _EDGE_M, _half(240, 0.882), "in1k"),
    ("tf_efficientnet_el", _EDGE_L, _half(300, 0.904), "in1k"),
    ("tf_efficientnet_lite0", tables.LITE, _half(224, 0.875), "in1k"),
    ("tf_efficientnet_lite1", tables.scale_lite(1.0, 1.1), _half(240, 0.882), "in1k"),
    ("tf_efficientnet_lite2", tables.scale_lite(1.1, 1.2), _half(260, 0.890), "in1k"),
    ("tf_efficientnet_lite3", tables.scale_lite(1.2, 1.4), _half(300, 0.904, "bilinear"), "in1k"),
    ("tf_efficientnet_lite4", tables.scale_lite(1.4, 1.8), _half(380, 0.920, "bilinear"), "in1k"),
    ("tf_efficientnetv2_b0", _V2_B0, _imagenet(224, 0.875), "in1k"),
    ("tf_efficientnetv2_b1", _V2_B1, _imagenet(240, 0.882), "in1k"),
    ("tf_efficientnetv2_b2", _V2_B2, _imagenet(260, 0.890), "in1k"),
    ("tf_efficientnetv2_b3", _V2_B3, _imagenet(300, 0.904), "in1k"),
    ("tf_efficientnetv2_s", tables.V2_S, _half(384, 1.0), "in1k"),
    ("tf_efficientnetv2_m", tables.V2_M, _half(480, 1.0, crop_mode="squash"), "in1k"),
    ("tf_efficientnetv2_l", tables.V2_L, _half(480, 1.0, crop_mode="squash"), "in1k"),
)

# Networks of this package's own, whose weights nobody has published: `subbyte train` makes them.
_OWN: tuple[tuple[str, Architecture, Preprocessing], ...] = (
    (
        "efficientnetv2_xs",
        tables.V2_XS,
        replace(_imagenet(96, 1.0), crop_mode="squash"),
    ),
)

ENTRIES: dict[str, CatalogEntry] = {
    name: CatalogEntry(architecture, preprocessing, f"timm/{name}.{tag}")
    for name, architecture, preprocessing, tag in (
        *_PLAIN,
        *((n, tables.tensorflow(a), p, t) for n, a, p, t in _TENSORFLOW),
    )
}
ENTRIES |= {name: CatalogEntry(architecture, preprocessing, "") for name, architecture, preprocessing in _OWN}
