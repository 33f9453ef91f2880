-- Users' interactions by their names, each user's most telling first; of more than these only the ids.
SELECT given.name, told.item_id, told.rating
FROM unnest(%(names)s::text[]) WITH ORDINALITY AS given (name, place),
    tterec.history_of(given.name) h,
    LATERAL (
        SELECT own.item_id, own.rating, own.place
        FROM unnest(h.items, h.ratings) WITH ORDINALITY AS own (item_id, rating, place)
        UNION ALL
        SELECT other, NULL, NULL FROM unnest(h.met) other WHERE other <> ALL (h.items)
    ) told
ORDER BY given.place, told.place NULLS LAST, told.item_id
