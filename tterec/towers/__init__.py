"""The two towers: everything that speaks torch."""

import os

# OpenMP's threads wait for each other by spinning, and where another process holds a core they
# spin away the very time that the thread they wait for needs. Measured on two cores beside two
# busy processes: an epoch of 92,000 interactions took more than 60 s with two spinning threads
# and 7 s with two that sleep. OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from tterec.towers.embedding import ItemVectors, Towers
from tterec.towers.fine_tuning import fine_tune
from tterec.towers.training import train

__all__ = ["ItemVectors", "Towers", "fine_tune", "train"]
