-- The first k of a user's precomputed list, if it is right.
SELECT rank, book_id, isbn, title, score, similarity, source
FROM tterec.listed(%(user_id)s::bigint, %(k)s::int)
