"""Executions over HTTP, which a kernel's agent carries out."""
