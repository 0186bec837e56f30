"""What a kernel's container may do and see: security, volumes, network."""
