"""Pruning in other frameworks' training loops: one module for each, imported only by name."""
