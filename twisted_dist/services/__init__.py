"""The daemons as Twisted services: `Scheduler`, `Worker`, `Nanny`."""
