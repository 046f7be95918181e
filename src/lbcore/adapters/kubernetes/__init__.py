"""Kubernetes' objects, and the text they are written in, as the core's values; and back."""
