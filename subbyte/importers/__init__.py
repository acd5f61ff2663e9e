"""Networks of other frameworks as graphs."""
