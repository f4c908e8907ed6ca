"""A run of several processes: how they join, agree on when to leave, and end together."""
