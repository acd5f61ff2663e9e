"""Settings of every test: the same hypothesis examples on every run, and no time limit on one."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fixed")
