-- Who met which item, and how they liked it: user_id, item_id, rating (0 to 10, NULL where the
-- user interacted without rating) and, where known, rated_at. One row a user and item.
SELECT user_id, book_id AS item_id, rating, rated_at
FROM tterec.ratings
