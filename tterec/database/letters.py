"""Unicode as Python knows it, for SQL functions that must read texts exactly as Python does.

What a server's collations know of case and letters differs: from version to version, by provider,
and a plain server has none but C. So the functions carry Python's own tables: of the Python that
ran `tterec db upgrade`.
"""

from __future__ import annotations

import re

_CASED = range(0x80, 0x20000)
"""All letters with case are here; a test looks at the rest of Unicode."""


def placeholders(utf8: bool = True) -> dict[str, str]:
    """What stands in the functions for tables of characters; of ASCII alone unless `utf8`.

    @word@ and @space@: insides of a regular expression's brackets, the characters of `\\w` and
    those that str.split() splits by. @cased@ and @folded@: characters and, at the same place,
    what str.casefold() makes of each. @unfolded@ and @unfoldings@: those of which it makes
    several, as the inside of brackets and as an array's elements.
    """
    codes = [*range(1, 0xD800), *range(0xE000, 0x110000)] if utf8 else range(1, 0x80)
    everything = "".join(map(chr, codes))
    folds = {c: c.casefold() for c in map(chr, _CASED if utf8 else ()) if c.casefold() != c}
    single = {c: fold for c, fold in folds.items() if len(fold) == 1}
    several = {c: fold for c, fold in folds.items() if len(fold) > 1}
    return {
        "@word@": "".join(f"{run[0]}-{run[-1]}" for run in re.findall(r"\w+", everything)),
        "@space@": "".join(
            f"\\u{ord(run[0]):04X}-\\u{ord(run[-1]):04X}" for run in re.findall(r"\s+", everything)
        ),
        "@cased@": "".join(single),
        "@folded@": "".join(single.values()),
        "@unfolded@": "".join(several) or "\\u0001",
        "@unfoldings@": ", ".join(f"'{c}', '{fold}'" for c, fold in several.items()),
    }
