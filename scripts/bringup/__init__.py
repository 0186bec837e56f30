"""Brings up what a checkout needs: environment, Docker engine, kernel image, gateway, checks."""
