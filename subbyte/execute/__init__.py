"""Executors: one graph, three implementations of docs/spec/numerics.md."""
