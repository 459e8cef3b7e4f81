"""Locks, semaphores, events, variables and queues that clients and tasks share by name."""
