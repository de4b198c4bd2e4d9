"""The parts of the backend of files."""
