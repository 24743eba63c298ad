"""Real servers that tests, demo and benchmark start, each on loopback and on free ports."""
