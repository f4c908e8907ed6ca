"""Tables as data: the arms, what each may try, the cells, and what a paper prints for them.

title, note:  of the page; the note says what stands beside the numbers (a reduced size, a substitute).
base, set:    the experiment's config file, and fields that all runs set.
cells:        {field: values}; every combination is a column. Dense arms have one cell, "".
seeds:        of the runs that are reported, on the test set.
arms:         mappings with name, argument (of the base file), set, trials (a sweep) or like (an arm).
tuning:       at (the cell that is tuned), seeds (others than those reported) and validation (a share). A table
              of published settings has none: its arms then have one trial each.
claims:       mappings with claim, better, worse (arms). figure, gain: the claims that are drawn, per cell and
              over the block's size.
metrics:      mappings with the fields of experiments/reporting/metrics.py; the first tunes and judges. Without
              it, accuracy in percent.
published:    {arm: {cell: {"value": 69.56, "source": "arXiv ..., Table 1"}}}, in the unit of the first metric;
              a cell as the table prints it ("8x8, 90%"). What the paper marks as diverged: {"value": None,
              "said": "diverged", "source": ...}. A figure that we lack is left out, and prints n/a.
"""
