"""What ``chaos.py`` is made of."""
