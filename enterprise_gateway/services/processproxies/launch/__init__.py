"""Launches: the environment of the script, the progress, and the reason of a failure."""
