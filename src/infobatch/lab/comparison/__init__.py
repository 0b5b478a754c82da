"""Runs that are compared: full data, ways of pruning, and their rivals at equal cost."""
