"""Values of options that have a form of their own: how they are written, and what they are."""
