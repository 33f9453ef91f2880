"""FAISS indexes on disk: one file a database and kind, with a checksum.

A file is a line that names its format, a header in JSON, the item ids, FAISS's bytes, and the
SHA-256 of all before it. A file that is not whole is built again, as is one of other vectors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tterec.errors import TterecError
from tterec.retrieval.faiss_index import FaissIndex

_MAGIC = b"tterec faiss index 1\n"
_DIGEST_BYTES = 32


def cached(folder: Path, kind: str, key: str, build: Callable[[], FaissIndex]) -> FaissIndex:
    """The index of a kind in a folder, if it is of `key`; else what `build` returns, then kept.

    Several processes may ask at once: one builds, the others wait for it. Raises TterecError
    where the folder cannot be written.
    """
    import fasteners

    path = folder / f"{kind}.index"
    found = read(path, kind, key)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with fasteners.InterProcessLock(str(path.with_suffix(".lock"))):
            found = read(path, kind, key)
            if found is None:
                found = build()
                _write(path, key, found)
    except OSError as error:
        raise TterecError(
            f"cannot keep the index in {folder}: {error.strerror}; name another place in "
            "TTEREC_HOME, or leave out --index"
        ) from error
    return found


def read(path: Path, kind: str, key: str) -> FaissIndex | None:
    """The index in a file; None where there is none of this kind and key, or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        return None
    header_line, _, rest = body[len(_MAGIC) :].partition(b"\n")
    header = json.loads(header_line)
    if (header["kind"], header["key"]) != (kind, key):
        return None
    ids_bytes = 8 * header["items"]
    item_ids = np.frombuffer(rest[:ids_bytes], dtype="<i8").astype(np.int64)
    return FaissIndex.load(kind, item_ids, header["effort"], rest[ids_bytes:])


def _write(path: Path, key: str, index: FaissIndex) -> None:
    header = {
        "kind": index.kind,
        "key": key,
        "items": len(index.item_ids),
        "effort": index.effort,
    }
    body = b"".join(
        (
            _MAGIC,
            json.dumps(header).encode(),
            b"\n",
            index.item_ids.astype("<i8").tobytes(),
            index.dump(),
        )
    )
    # Whoever reads meanwhile has the old file, whole.
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.write(hashlib.sha256(body).digest())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
