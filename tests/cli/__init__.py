"""Tests of the command lines, without processes."""
