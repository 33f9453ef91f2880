"""`python -m tterec` is the same as `tterec`."""

from tterec.cli import main

if __name__ == "__main__":
    main()
