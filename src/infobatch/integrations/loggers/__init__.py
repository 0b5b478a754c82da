"""Loggers of trackers, for ``pruner.log_to``; each is imported by name, and imports its package then."""
