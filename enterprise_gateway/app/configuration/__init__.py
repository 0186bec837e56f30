"""Reading of the configuration: command line, files and environment, and what is a fault."""
