"""The report of runs as one self-contained page: `page.write` is where it begins."""
