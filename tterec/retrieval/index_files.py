"""FAISS indexes on disk: one file a database, generation and kind, believed only if whole.

A file is the SHA-256 of all that follows, in hexadecimal; a line of JSON that says what it is
of; the item ids; the index in FAISS's own format. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tterec import config
from tterec.database.connection import Connection
from tterec.errors import Busy, TterecError
from tterec.retrieval import faiss_index, pgvector
from tterec.retrieval.faiss_index import FaissIndex, Kind
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import VectorsState

_FORMAT = 1
_DIGEST = 64
_NAME = re.compile(r"(?P<kind>[a-z]+)-(?P<generation>[0-9]+)\.index")
# Longer than a build takes.
_PATIENCE_SECONDS = 600.0
# The lock between processes does not part the threads of one.
_THREADS = threading.Lock()


@dataclass(frozen=True)
class Key:
    """What an index is of: which vectors, and which kind."""

    state: VectorsState
    generation: int
    kind: Kind

    @property
    def folder(self) -> Path:
        """Two databases never share one."""
        name = f"{self.state.system}-{self.state.database}"
        return config.cache() / "indexes" / name

    @property
    def path(self) -> Path:
        return self.folder / f"{self.kind}-{self.generation}.index"


def current(connection: Connection, model: LiveModel, kind: Kind) -> Key:
    """The key of the index that the live generation's vectors want now."""
    return Key(pgvector.vectors_state(connection, model), model.generation, kind)


def obtain(connection: Connection, model: LiveModel, key: Key) -> FaissIndex:
    """The index of the file, or, where there is none, an older or a damaged one, a new one.

    `key` is of the caller's snapshot, in which the vectors are read. Raises Busy where another
    process has been building for ten minutes, TterecError where the cache cannot be written.
    """
    found = load(key)
    if found is not None:
        return found
    with _locked(key):
        found = load(key)  # another process may have built it meanwhile
        if found is not None:
            return found
        item_ids, vectors = pgvector.all_item_vectors(connection, model)
        built = FaissIndex.build(key.kind, item_ids, vectors)
        _save(key, built, vectors.shape[1])
        _remove_older(key)
    return built


def load(key: Key) -> FaissIndex | None:
    """The index of the file; None where there is none, or it is damaged or of other vectors."""
    try:
        data = key.path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(error) from error
    body = memoryview(data)[_DIGEST + 1 :]
    if data[:_DIGEST] != hashlib.sha256(body).hexdigest().encode():
        return None
    line_end = data.index(b"\n", _DIGEST + 1)
    try:
        header = json.loads(data[_DIGEST + 1 : line_end])
        count, dim = int(header["count"]), int(header["dim"])
        if header != _header(key, count, dim):
            return None
        item_ids = np.frombuffer(data, "<i8", count, line_end + 1).astype(np.int64)
        index = np.frombuffer(data, np.uint8, offset=line_end + 1 + 8 * count)
        return FaissIndex.from_bytes(key.kind, item_ids, index)
    except (ValueError, KeyError):  # whole, but of another version of tterec or FAISS
        return None


def _header(key: Key, count: int, dim: int) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "vectors": asdict(key.state),
        "generation": key.generation,
        "kind": key.kind,
        "settings": faiss_index.settings(key.kind, count, dim),
        "count": count,
        "dim": dim,
    }


def _save(key: Key, index: FaissIndex, dim: int) -> None:
    """Write the file beside its place and move it there: it is never seen in part."""
    header = json.dumps(_header(key, len(index), dim)).encode() + b"\n"
    parts = (header, index.item_ids.astype("<i8").tobytes(), index.to_bytes().data)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    try:
        number, name = tempfile.mkstemp(dir=key.folder, suffix=".part")  # mode 0600
        partial = Path(name)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(digest.hexdigest().encode() + b"\n")
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            # Windows replaces no file that somebody reads: the next process builds one again.
            with suppress(PermissionError):
                partial.replace(key.path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(error) from error


def _remove_older(key: Key) -> None:
    """Remove the files of generations before this one, and what killed builds left."""
    for path in key.folder.iterdir():
        named = _NAME.fullmatch(path.name)
        old = named is not None and int(named["generation"]) < key.generation
        if old or path.suffix == ".part":
            with suppress(PermissionError):  # on Windows, while somebody reads it
                path.unlink(missing_ok=True)


@contextmanager
def _locked(key: Key) -> Iterator[None]:
    """One builder at a time in a database's folder, which exists then."""
    import fasteners

    try:
        config.cache().mkdir(parents=True, exist_ok=True)
        for folder in (key.folder.parent, key.folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        lock = fasteners.InterProcessLock(key.folder / "lock")
        with _THREADS:
            if not lock.acquire(timeout=_PATIENCE_SECONDS):
                raise Busy(f"another process has been building {key.path}; try again")
            try:
                yield
            finally:
                lock.release()
    except OSError as error:
        raise _unusable(error) from error


def _unusable(error: OSError) -> TterecError:
    return TterecError(
        f"the cache of FAISS indexes in {config.cache()} is out of reach: {error}; "
        "set TTEREC_HOME to a directory of yours"
    )
