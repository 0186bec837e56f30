"""What is decided and prepared before the kernel is spawned; importing it must stay cheap."""
