"""Gateways in a process, in containers, as replicas and as a stack, and their faults."""
