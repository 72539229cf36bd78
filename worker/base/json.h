/*-------------------------------------------------------------------------
 *
 * json.h
 *		JSON of strangers: is it any, and its tokens.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_JSON_H
#define DE_JSON_H

#include "common/jsonapi.h"

/*
 * Deeper JSON is not taken for JSON.  Common parsers have limits from 512
 * upwards: one record that a handler cannot parse would fail its whole batch,
 * again and again.
 */
#define DE_JSON_MAX_DEPTH 500

/*
 * Is this JSON (RFC 8259) in UTF-8, not nested too deep?  Neither recurses nor
 * allocates nor throws.
 */
extern bool de_json_valid(const char *s, int len);

/*
 * Is this JSON that no reader stumbles over: besides, without an unpaired
 * surrogate and without a number beyond the largest binary64?
 */
extern bool de_json_interoperable(const char *s, int len);

/* Tokens as they are written, escapes not resolved.  Allocates nothing, never throws. */
extern void de_json_begin(JsonLexContext *lex, const char *s, int len);

/* The next token; JSON_TOKEN_INVALID for what is none. */
extern JsonTokenType de_json_next(JsonLexContext *lex);

/* Is the current token written exactly so? */
extern bool de_json_token_is(const JsonLexContext *lex, const char *raw);

#endif							/* DE_JSON_H */
