"""Pruning in other frameworks' training loops: a module or folder for each, imported only by name."""
