"""Large values in memory that processes of one host share, and on disk where there are too many."""
