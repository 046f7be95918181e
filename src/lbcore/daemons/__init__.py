"""Assemble: choose a brain, its sources and sinks, and run the one loop."""
