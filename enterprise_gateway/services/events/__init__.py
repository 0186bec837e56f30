"""What happens to kernels, as events: their types, the bus that spreads them, and the sinks."""
