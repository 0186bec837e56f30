"""The gateway's kernel agent for images that have none."""
