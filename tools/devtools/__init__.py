"""The commands of `scripts/`: environment, Docker engine, images, gateway, checks and tests."""
