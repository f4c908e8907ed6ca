"""Block-sparse products that are really faster; imports nothing else of the project."""
