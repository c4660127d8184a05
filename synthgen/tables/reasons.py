"""Outcomes and reasons: closed lists, so that every row can be counted and the sums of `synth status` add up."""

TAG_OUTCOMES = ("tagged", "quarantined")
ROW_REASONS = (  # why a row of an instruction set is not used
    "row_unreadable",  # it cannot be parsed, or is no record
    "row_too_long",
    "wrong_form",  # it lacks what the form has
    "no_conversation",
    "broken_roles",  # its turns are not question and answer by turns
    "system_text",  # it has a text of the system, which samples do not
    "not_text",  # a text in it is not UTF-8
    "image_marker",  # the marks of images in its texts do not fit its image
    "no_image",  # it names none
    "several_images",
    "path_refused",  # the path of its image leads out of the folder of the images
)
QUARANTINE_REASONS = (
    *ROW_REASONS,
    "unreadable",  # the source could not give the bytes
    "part_unreadable",  # a Parquet file can be opened, and the part of it with this row cannot be read
    "no_bytes",  # the row of the Parquet file has no image in it
    "reserved",  # its file, its metadata or its server says that no model may learn from it
    "url_refused",  # the user does not allow its host, or its address is not a public one
    "changed",  # the bytes are no longer the listed version
    "too_many_bytes",
    "not_an_image",
    "format_not_allowed",
    "unsupported",  # the format is allowed, and this kind of it cannot be decoded
    "transparent",  # every pixel is
    "too_many_pixels",
    "too_small",
    "too_elongated",
    "too_many_frames",
    "truncated",
    "corrupt",
    "decode_timeout",
    "decoder_died",
    "tagger_failed",
    "purged",
)
LEFT_OUT = (  # why tags that should have come along with a tagged image were not taken
    "no_sidecar",
    "unreadable_sidecar",
    "no_tags",  # it can be read, and there are none where the tagger looks
    "no_such_tag",  # some of them; the taxonomy does not know them
    "bad_score",  # some of them
)
PLAN_OUTCOMES = (
    "planned",
    "same_bytes",
    "near_duplicate",
    "semantic_duplicate",
    "other_run",  # an earlier run has it; the reason is its name
    "reserved",  # another object with these bytes is
    "excluded",  # plan.where leaves out its licence or source
    "unserved",
    "over_quota",
    "changed",
)
QUESTION_OUTCOMES = ("asked", "failed", "follow_up")  # follow_up: it goes on from a pair, so it is asked later
GENERATE_OUTCOMES = ("pair", "failed")
FAILURE_REASONS = (
    "declined",  # the model says that the image cannot support this type
    "too_few_questions",  # it asked fewer than it was asked for
    "unparsable",  # the reply could not be read; it is kept whole
    "repeated_question",  # asked already about this image
    "nothing_to_follow",  # no pair of this image that a follow-up could go on from
    "cut_off",  # the reply reached max_tokens
    "empty_answer",
    "empty_question",  # of a turn of an instruction set
    "answerable",  # the question of a negative can be answered from its image, or a judge is not sure enough
    "gated",  # a score of the question is outside its range in generate.gate, so it was not answered
    "refused",
    "image_changed",  # the bytes fetched again differ from image_id
    "image_unreadable",
    "call_failed",  # the engine answered with an error, after its retries
    "call_timeout",
    "code_failed",  # code around the model, ours or a user's, raised what nothing foresaw
    "poison",  # the engine died on this row alone
    "score_failed",  # the measure of an added score raised an exception; pairs never have this reason
)
NOT_APPLICABLE = "does not apply"  # begins the reason of a score that says nothing of the pair's answer form
UNSCORED = tuple(f"unscored.{reason}" for reason in FAILURE_REASONS)  # counts of scores that a failure prevented
RETRIED_REASONS = (  # that may be otherwise at another try; the others say something of the row itself
    "unreadable",
    "part_unreadable",
    "decode_timeout",
    "decoder_died",
    "tagger_failed",
    "image_unreadable",
    "call_failed",
    "call_timeout",
    "code_failed",
    "poison",
    "score_failed",
)
ANSWER_FORMS = ("short", "brief", "detailed", "choice", "long", "text", "points", "boxes")
