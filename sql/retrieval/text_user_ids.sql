-- Whether users have text ids in the interactions query.
SELECT a.atttypid <> ALL ('{int2,int4,int8}'::regtype[])
FROM pg_attribute a
WHERE a.attrelid = 'tterec.source_interactions'::regclass AND a.attname = 'user_id'
