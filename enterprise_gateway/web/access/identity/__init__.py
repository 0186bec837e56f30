"""The ways of knowing who sends a request: one module each, behind the interfaces of `contract`."""
