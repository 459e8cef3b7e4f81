"""The worker's machine: what to fetch, run, keep and report."""
