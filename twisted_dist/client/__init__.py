"""Submitting work: `AsyncClient` in a reactor, `Client` everywhere else."""
