"""Hearth's Python runtime client: takes invocations from the runtime API."""
