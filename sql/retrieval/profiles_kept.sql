-- Whether a generation was published with what embeds a profile.
SELECT to_regclass('tterec.profile_tokens_@generation@') IS NOT NULL
