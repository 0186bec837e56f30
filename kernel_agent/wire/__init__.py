"""Towards clients: frames, codecs, the kernel's log, and what each client is owed of it."""
