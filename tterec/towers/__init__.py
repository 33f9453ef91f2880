"""The two towers: everything that speaks torch."""

from tterec.towers.embedding import ItemVectors, Towers
from tterec.towers.training import train

__all__ = ["ItemVectors", "Towers", "train"]
