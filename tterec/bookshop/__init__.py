"""A generated bookshop: invented books, and readers whose tastes are known because we made them."""

from tterec.bookshop.shop import Bookshop, open_bookshop

__all__ = ["Bookshop", "open_bookshop"]
