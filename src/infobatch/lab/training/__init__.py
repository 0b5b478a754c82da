"""Training a run: its engines, and what they share."""
