/*-------------------------------------------------------------------------
 *
 * json_text.h
 *		The text of a jsonb value, fast.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_JSON_TEXT_H
#define DE_JSON_TEXT_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* Appends what jsonb_out() returns, in the database's encoding. */
extern void de_json_text_append(StringInfo buf, Jsonb *json);

#endif							/* DE_JSON_TEXT_H */
