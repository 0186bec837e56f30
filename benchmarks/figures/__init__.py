"""One module a group of figures; each has `measure(bench)`."""
