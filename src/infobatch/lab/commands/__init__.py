"""The commands of the command line, as functions whose parameters are the options."""
