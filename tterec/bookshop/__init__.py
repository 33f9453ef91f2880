"""A generated bookshop: invented books, and readers whose tastes are known because we made them."""

from tterec.bookshop.readers import Reader, Reading
from tterec.bookshop.shop import Bookshop, open_bookshop
from tterec.bookshop.stock import Book

__all__ = ["Book", "Bookshop", "Reader", "Reading", "open_bookshop"]
