-- Whether a generation was not pruned.
SELECT to_regclass('tterec.user_vectors_@generation@') IS NOT NULL
