"""Architecture search: spaces as data, a weight-sharing network, and an evolution under a device's limits."""

from subbyte.search.space import Candidate, Space, list_spaces, load_space

__all__ = ["Candidate", "Space", "list_spaces", "load_space"]
