"""When: ramps, phases and the plans of the papers, all of them values."""
