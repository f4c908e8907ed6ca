"""Where configs meet objects."""
