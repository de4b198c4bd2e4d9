"""Agents in processes of their own, on one store: see README.md."""
