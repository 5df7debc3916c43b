"""Checking a data set in YouTube-VIS format: ``checking`` finds what is wrong, ``mending`` mends what it can."""
