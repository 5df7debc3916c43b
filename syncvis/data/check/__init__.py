"""Checking YouTube-VIS or COCO files: ``checking`` finds what is wrong, ``mending`` mends what it can."""
