"""Backends: the record store's contract (``base``), URLs (``registry``), and one module for each store."""
