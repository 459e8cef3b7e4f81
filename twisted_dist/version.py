"""The version of the package, also said in every hello."""

VERSION = "0.1.0"
