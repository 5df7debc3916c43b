"""Commands of ``syncvis sweep`` that plan, watch and steer: one module each, registered on the app in ``cli``."""
