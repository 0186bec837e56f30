"""The kernel side: its process, its channels, and the state machine of its life."""
