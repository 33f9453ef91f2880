-- ISBNs as the catalogue has them.
SELECT tterec.spelled_isbns(%(isbns)s::text[])
