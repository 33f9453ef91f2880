-- The same of users by their names.
SELECT given.name, h.items, h.ratings, h.met
FROM unnest(%(names)s::text[]) AS given (name), tterec.history_of(given.name) h
