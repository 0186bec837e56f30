"""Running the launch scripts of kernelspecs."""
