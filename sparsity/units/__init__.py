"""What is kept or removed, and how it is counted."""
