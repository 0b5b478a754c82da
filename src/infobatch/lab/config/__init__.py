"""Configurations: the options of a run as plain data, written down as JSON and as policy specs."""
