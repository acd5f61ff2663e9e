"""`python -m subbyte`, the same as the `subbyte` command."""

from subbyte.cli import main

main()
