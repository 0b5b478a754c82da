"""Comparisons of runs: full data, ways of pruning, and the controls at equal cost."""
