"""The kernels that exist, as engines and agents report them."""
