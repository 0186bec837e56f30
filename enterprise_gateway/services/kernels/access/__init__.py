"""Who may use a kernel: its owner, admins, and those with whom it is shared."""
