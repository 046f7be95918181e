"""Translate: bytes, JSON and text to and from core values, and protocol engines. No socket, file or process."""
