"""What other packages' objects need to be kept in a state, a module for each, behind the extra of its name.

Each has ``register(types)``, which adds its classes to a ``TypeRegistry`` and gives it back. Nothing here is imported
before it is asked for, and a package that is missing is a ``ConfigurationError`` which names the extra.
"""
