/*-------------------------------------------------------------------------
 *
 * output_settings.h
 *		The settings that the text of values depends on, at fixed values: one
 *		value has one text, in every session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_OUTPUT_SETTINGS_H
#define DE_OUTPUT_SETTINGS_H

/* Which settings: flags. */
#define DE_OUTPUT_DATESTYLE 0x01
#define DE_OUTPUT_INTERVALSTYLE 0x02
#define DE_OUTPUT_TIMEZONE 0x04
#define DE_OUTPUT_FLOAT_DIGITS 0x08
#define DE_OUTPUT_BYTEA 0x10
#define DE_OUTPUT_MONETARY 0x20
#define DE_OUTPUT_NAMES 0x40	/* search_path, quote_all_identifiers */
#define DE_OUTPUT_DATEORDER 0x80	/* functions that we know nothing of read dates by it */

/* Which settings the text of a type's values depends on.  Looks at catalogs. */
extern int	de_output_settings_of(Oid type);

/*
 * Gives these settings their fixed values and returns what de_output_fixed_end
 * wants to know.  An error in between needs no clean-up: the end of its
 * (sub)transaction restores them.
 */
extern int	de_output_fixed_begin(int settings);
extern void de_output_fixed_end(int level);

#endif							/* DE_OUTPUT_SETTINGS_H */
