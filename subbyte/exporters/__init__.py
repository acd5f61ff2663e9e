"""Graphs as files of other runtimes."""
