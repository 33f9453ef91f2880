-- Users' interactions by their names, each user's most telling first.
SELECT given.name, told.item_id, told.rating
FROM unnest(%(names)s::text[]) WITH ORDINALITY AS given (name, place),
    tterec.history_of_name(given.name) h,
    unnest(h.items, h.ratings) WITH ORDINALITY AS told (item_id, rating, place)
ORDER BY given.place, told.place
