"""Pulls of images: by the gateway, once for all kernels that wait for them."""
