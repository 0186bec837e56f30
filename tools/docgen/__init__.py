"""Generates those parts of docs/ that the source already states."""
