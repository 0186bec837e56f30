"""Agents: real ones, fake ones, hostile ones, and raw clients of their interface."""
