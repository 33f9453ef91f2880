"""Recommendations for Python programs: user, candidates, exact scores, ranked list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tterec import arguments, single_lists
from tterec.database.connection import Connection, Database
from tterec.filters import Filters
from tterec.records import (
    Contribution,
    Kind,
    ProgressCallback,
    Recommendation,
    Strategy,
    User,
    ignore,
)
from tterec.retrieval import pgvector, precomputed
from tterec.retrieval import users as user_rows
from tterec.retrieval.choice import PGVECTOR, Indexes
from tterec.retrieval.pgvector import NO_ITEMS
from tterec.retrieval.session import Session
from tterec.strategic_lists import StrategicLists

if TYPE_CHECKING:
    from pandas import DataFrame

    from tterec.bulk_lists import BulkLists
    from tterec.explaining import Explained
    from tterec.ranking.rules import Rules


class Recommender:
    """Ranked lists from the live generation, always as of now.

    `url` is a libpq URL or a Database; without one the environment decides, and by default it
    is the embedded server, which is started if need be. It holds one connection, opened at the
    first question and again after it broke: one Recommender a thread. Close it, or use it in a
    `with` statement. `index` finds the candidates: `pgvector`, `faiss-flat`, `faiss-hnsw` or
    `faiss-ivfpq`; those of FAISS are held in memory, and on disk below TTEREC_HOME.

    >>> with Recommender() as recommender:
    ...     recommender.recommend(123, k=10)
    """

    def __init__(self, url: str | Database | None = None, *, index: str = PGVECTOR) -> None:
        self._indexes = Indexes(index)
        database = url if isinstance(url, Database) else Database.resolve(url)
        self._strategic = StrategicLists(database, self._indexes)
        self._session = Session(database)

    def __enter__(self) -> Recommender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The next question opens another."""
        self._session.close()

    def recommend(
        self,
        user: User,
        k: int = 10,
        exclude_rated: bool = True,
        *,
        ranker: bool = True,
        rules: Rules | None = None,
        filters: Filters | None = None,
        strategy: Strategy | None = None,
        progress: ProgressCallback = ignore,
    ) -> list[Recommendation]:
        """The k best books for a user, given by id, or by name where users have text ids.

        Books that the user has met, up to this moment, are left out unless `exclude_rated` is
        false. An unknown user gets popular books; their `source` says so. Without `ranker` the
        similarity alone orders the list, as it does where the generation has no second stage.
        A list that `tterec precompute` made is taken where it still is what would be computed.
        `filters` say which books there are to choose from; see Filters. `rules` are applied to the
        best few hundred; see Rules. `strategy`: a simpler method; one by clusters computes them
        where there are none, and tells `progress` so.
        """
        k = arguments.checked_k(k)
        self._strategic.prepare(strategy, progress)

        def work(connection: Connection) -> list[Recommendation]:
            user_id, history = user_rows.known(connection, [user])[0]
            excluded = history.item_ids if exclude_rated else NO_ITEMS
            among = pgvector.among(connection, filters)

            def best(n: int) -> list[Recommendation]:
                if strategy is not None:
                    return self._strategic.recommend(
                        connection, strategy, history, n, excluded=excluded, among=among
                    )
                if user_id is not None and ranker and exclude_rated and self._indexes.default:
                    found = precomputed.listed(connection, user_id, n, among)
                    if found is not None:
                        return found
                return single_lists.for_history(
                    connection,
                    user_id,
                    history,
                    n,
                    excluded,
                    indexes=self._indexes,
                    ranker=ranker,
                    among=among,
                )

            return single_lists.under_rules(connection, rules, k, user_id, best)

        return self._session.ask(work)

    def recommend_for_profile(
        self,
        profile: Mapping[str, Any],
        k: int = 10,
        *,
        rules: Rules | None = None,
        filters: Filters | None = None,
    ) -> list[Recommendation]:
        """The k best books for somebody who is in no table: `{"age": 34, "location": "york"}`.

        Features are the columns of the users query; what is None, or not named, is unknown. Where
        everything is, these are popular books. Values: see `tterec.encoding.known_values`. Raises
        InvalidArgument, naming a feature that is unknown or has a value of another type.
        """
        k = arguments.checked_k(k)
        from tterec import cold_start

        def work(connection: Connection) -> list[Recommendation]:
            among = pgvector.among(connection, filters)
            return single_lists.under_rules(
                connection,
                rules,
                k,
                None,
                lambda n: cold_start.recommend(
                    connection, profile, n, indexes=self._indexes, among=among
                ),
            )

        return self._session.ask(work)

    def profile_features(self) -> dict[str, Kind] | None:
        """The features that `recommend_for_profile` knows; None where no generation is live."""
        from tterec import cold_start

        return self._session.ask(cold_start.features)

    def recommend_for_books(
        self,
        isbns: Sequence[str],
        ratings: Sequence[float | None] | None = None,
        k: int = 10,
        *,
        rules: Rules | None = None,
        filters: Filters | None = None,
    ) -> list[Recommendation]:
        """The k best books for somebody who has read these, and rated them 0 to 10 or None.

        Unknown ISBNs are passed over; if all are unknown, these are popular books. A book that
        is named twice counts once, with its higher rating.
        """
        k = arguments.checked_k(k)
        given = arguments.checked_ratings(isbns, ratings)

        def work(connection: Connection) -> list[Recommendation]:
            history = arguments.history_of_books(connection, isbns, given)
            among = pgvector.among(connection, filters)
            return single_lists.under_rules(
                connection,
                rules,
                k,
                None,
                lambda n: single_lists.for_history(
                    connection,
                    None,
                    history,
                    n,
                    history.item_ids,
                    indexes=self._indexes,
                    among=among,
                ),
            )

        return self._session.ask(work)

    def similar(
        self,
        isbn: str,
        k: int = 10,
        *,
        rules: Rules | None = None,
        filters: Filters | None = None,
    ) -> list[Recommendation]:
        """The k books nearest to a book, itself left out. Raises UnknownBook.

        A book that is newer than the live generation has no vector yet: popular books.
        """
        k = arguments.checked_k(k)

        def work(connection: Connection) -> list[Recommendation]:
            item_id = arguments.item_id(connection, isbn)
            among = pgvector.among(connection, filters, wanted=k)
            return single_lists.under_rules(
                connection,
                rules,
                k,
                None,
                lambda n: single_lists.near(connection, self._indexes, item_id, n, among),
            )

        return self._session.ask(work)

    def popular(
        self, k: int = 10, *, rules: Rules | None = None, filters: Filters | None = None
    ) -> list[Recommendation]:
        """The k most popular books, by mean rating shrunk where ratings are few."""
        k = arguments.checked_k(k)

        def work(connection: Connection) -> list[Recommendation]:
            model = pgvector.live_model(connection)
            among = pgvector.among(connection, filters)
            return single_lists.under_rules(
                connection,
                rules,
                k,
                None,
                lambda n: pgvector.popular(connection, model, n, NO_ITEMS, among),
            )

        return self._session.ask(work)

    def score(self, user: User, isbn: str) -> float | None:
        """The score that `recommend` orders the book by, whether or not the user has met it.

        None where the user or the book has no vector. Raises UnknownBook.
        """
        explained = self._explained(user, isbn)
        return None if explained is None else explained.score

    def explain(self, user: User, isbn: str) -> list[Contribution]:
        """What the score of a book is the sum of, the largest first: the user's own books that
        count and, without a book, their profile.

        Empty where there is no score. Raises UnknownBook.
        """
        explained = self._explained(user, isbn)
        return [] if explained is None else explained.parts

    def _explained(self, user: User, isbn: str) -> Explained | None:
        from tterec import explaining

        def work(connection: Connection) -> Explained | None:
            item_id = arguments.item_id(connection, isbn)
            user_id, history = user_rows.known(connection, [user])[0]
            return explaining.explain(connection, user_id, history, item_id)

        return self._session.ask(work)

    def generation(self) -> int | None:
        """The number of the live generation; None before the first is promoted."""
        model = self._session.ask(pgvector.live_model)
        return None if model is None else model.generation

    def serving(self) -> dict[str, Any]:
        """What tells the live generation from every other one, in this database or another."""

        def work(connection: Connection) -> dict[str, Any]:
            model = pgvector.live_model(connection)
            if model is None:
                return {"generation": None}
            state = pgvector.vectors_state(connection, model)
            return {
                "generation": model.generation,
                "made": state.made,
                "database": f"{state.system}/{state.database}",
                "index": self._indexes.name,
            }

        return self._session.ask(work)

    def everybody(self) -> list[User]:
        """Every user, in the order in which recommend_many goes through all."""
        return self._session.ask(user_rows.all_users)

    def recommend_many(
        self,
        users: Iterable[User] | None = None,
        k: int = 10,
        *,
        ranker: bool = True,
        rules: Rules | None = None,
        filters: Filters | None = None,
        strategy: Strategy | None = None,
        progress: ProgressCallback = ignore,
    ) -> Iterator[tuple[User, list[Recommendation]]]:
        """Each user with the list that `recommend` has for them, one after the other.

        `users`: ids or names; None for everybody. Item vectors are read once and held in memory
        and searched exhaustively, or by the index of FAISS that was chosen; users are read in
        batches. The generation, the catalogue and what passes the filters are those of the start,
        histories those of the moment.
        """
        k = arguments.checked_k(k)
        self._strategic.prepare(strategy, progress)
        from tterec import bulk_lists, many_lists

        def held(connection: Connection) -> BulkLists:
            if strategy is not None:
                return self._strategic.bulk(connection, strategy, filters)
            return bulk_lists.Bulk(connection, ranker, self._indexes, filters)

        return many_lists.one_by_one(self._session, held, users, k, rules=rules, progress=progress)

    @staticmethod
    def to_pandas(recommendations: Iterable[Recommendation]) -> DataFrame:
        """A frame with one row a recommendation and the columns of the SQL functions."""
        import pandas as pd

        rows = [asdict(one) for one in recommendations]
        return pd.DataFrame(rows, columns=list(Recommendation.__dataclass_fields__))
