-- Whether users have text ids in the interactions query.
SELECT tterec.user_id_type() NOT IN ('int2', 'int4', 'int8')
