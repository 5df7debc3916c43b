"""``python -m syncvis`` is the command ``syncvis``; torchrun starts it this way."""

from syncvis.cli import main

main()
