"""What a run is made of: plain data, which the command line fills in."""
