"""The decisions: pure state machines without I/O, clocks, randomness or pickle.

A machine takes a stimulus (a past fact, often about thousands of tasks) and the present
instant, and returns instructions (imperatives, at most a few for each peer).
"""
